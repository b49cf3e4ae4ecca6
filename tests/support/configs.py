"""Configs and git repositories for tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from router.config.load import Loaded, load_model
from router.config.schema import ModelConfig

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z",
    "GIT_COMMITTER_NAME": "Grace",
    "GIT_COMMITTER_EMAIL": "grace@example.com",
    "GIT_COMMITTER_DATE": "2026-01-02T03:04:06Z",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


def text_of(name: str = "fraud", *, split: str = "v3: 90, v4: 10", more: str = "", stable: str = "v3") -> str:
    """A model's file with versions v3, v4 and v5 on servers of their own."""
    servers = "\n".join(f"  v{n}: {{upstreams: [http://127.0.0.1:500{n}]}}" for n in (3, 4, 5))
    return (
        f"model: {name}\nversions:\n{servers}\nstable: {stable}\nregions:\n  default: {{{split}}}\n"
        f"stickiness: {{header: x-user}}\n{more}"
    )


def config_of(text: str, name: str = "fraud") -> ModelConfig:
    """What `text` says; it must be right."""
    config, problems = load_model(name, text.encode(), file=f"models/{name}.yaml", regions=None, root=Path("/configs"))
    assert config is not None, problems
    return config


def loaded(*configs: ModelConfig, regions: tuple[str, ...] | None = None) -> Loaded:
    """A repository of `configs`, without problems."""
    by_name = {config.model: config for config in configs}
    return Loaded(by_name, (), dict.fromkeys(by_name, ""), len(by_name), regions)


def git(folder: Path, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> str:
    """What git prints in `folder`."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        input=stdin, capture_output=True, timeout=20, check=True, env={**os.environ, **IDENTITY, **(environment or {})},
    )  # fmt: skip
    return done.stdout.decode().strip()


def new_repository(folder: Path, **files: str) -> Path:
    """A repository in `folder` whose first commit has config/models/<name>.yaml for each of `files`."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "config" / "models").mkdir(parents=True)
    for name, text in files.items():
        write_model(folder, name, text)
    commit(folder, "first")
    return folder


def write_model(folder: Path, name: str, text: str) -> None:
    """Writes config/models/<name>.yaml."""
    (folder / "config" / "models" / f"{name}.yaml").write_text(text)


def commit(folder: Path, subject: str, *options: str) -> str:
    """Commits all there is; returns the commit's id."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", f"--message={subject}", *options)
    return git(folder, "rev-parse", "HEAD")
