"""A repository of configs as texts, wherever they were read: what they say, judged like a folder's.

Rules:
1. Problems name the files as a person finds them: the folder's path, and for another commit that commit as well.
2. Relative paths in configs start at the same folder on both sides of a comparison; otherwise every one would differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from router.config.load import MODELS, REGIONS, SUFFIX, Loaded, load_model, load_regions, read_file
from router.config.problems import Problem
from router.config.schema import ModelConfig
from router.errors import OperatorError
from router.gitops.git import Git
from router.gitops.tree import Refused, commit_of, list_files, prefix_of, read_blobs


@dataclass(frozen=True, slots=True)
class Texts:
    """`files` by path inside the folder of configs: `models/<model>.yaml` and regions.yaml. `source` names it."""

    source: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()


def texts_in_folder(folder: Path) -> Texts:
    """The texts that lie in `folder`.

    Raises:
        OperatorError: it cannot be read.
    """
    files: dict[str, bytes] = {}
    try:
        for path in sorted((folder / MODELS).glob(f"[!.]*{SUFFIX}")):
            files[f"{MODELS}/{path.name}"] = read_file(path)
        if (folder / REGIONS).exists():
            files[REGIONS] = read_file(folder / REGIONS)
    except OSError as error:
        raise OperatorError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error
    return Texts(str(folder), files)


def texts_at(folder: Path, revision: str) -> Texts:
    """The texts that commit `revision` of the repository around `folder` has for that folder.

    Raises:
        OperatorError: there is no git, no repository, or no such commit.
        GitError: git cannot read it.
    """
    git = Git(folder)
    prefix = prefix_of(git)
    listing = list_files(git, commit_of(git, revision), prefix)
    blobs = read_blobs(git, listing.files.values())
    files = {path: blobs[found] for path, found in listing.files.items()}
    return Texts(f"{listing.commit[:12]}:{prefix.removesuffix('/')}", files, listing.refused)


def authors_since(folder: Path, revision: str) -> frozenset[str]:
    """Names and addresses of who wrote the commits since `revision` that touch `folder`, which lies in a repository.

    Raises:
        OperatorError: there is no such commit.
        GitError: git cannot read it.
    """
    git = Git(folder)
    told = git.read("log", "--format=%aN%n%aE", f"{commit_of(git, revision)}..HEAD", "--", ".")
    return frozenset(line for line in told.decode("utf-8", "replace").splitlines() if line)


def load_texts(texts: Texts, root: Path) -> Loaded:
    """What `texts` say; relative paths in them start at `root`. Never raises for what they hold."""
    problems = [
        Problem(f"{texts.source}/{refused.path}", 1, 1, "", refused.message, _model_of(refused.path))
        for refused in texts.refused
    ]
    regions, found = None, tuple[Problem, ...]()
    if (text := texts.files.get(REGIONS)) is not None:
        regions, found = load_regions(text, file=f"{texts.source}/{REGIONS}")
    problems += found
    configs: dict[str, ModelConfig] = {}
    sources: dict[str, str] = {}
    models = {path: text for path, text in texts.files.items() if path.startswith(f"{MODELS}/")}
    for path, text in models.items():
        name = _model_of(path)
        config, found = load_model(name, text, file=f"{texts.source}/{path}", regions=regions, root=root)
        problems += found
        if config is not None:
            configs[name] = config
            sources[name] = text.decode("utf-8")
    return Loaded(configs, tuple(problems), sources, len(models), regions, bool(models))


def _model_of(path: str) -> str:
    return path.removeprefix(f"{MODELS}/").removesuffix(SUFFIX) if path.startswith(f"{MODELS}/") else ""
