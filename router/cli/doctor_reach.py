"""What `doctor` asks of others: the registry, git, the ports.

Rules:
1. Each question has a deadline; an answer that does not come is a finding.
2. A port is tried by listening on it, as the router will, and let go at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from router.cli.findings import Finding
from router.cli.mlflow_api import Mlflow
from router.clock import SystemClock
from router.errors import RouterError
from router.gitops.git import Git, GitMissingError
from router.registry.redact import without_credentials
from router.supervisor.addresses import listen

MOST_SKEW = 5.0
"""Seconds that clocks may differ; tokens and certificates bear no more than minutes."""


def registry(url: str | None, models: Sequence[str], transport: httpx.BaseTransport | None = None) -> Finding:
    """Whether the registry answers; `models` are those whose configs need one."""
    if url is None:
        if not models:
            return Finding("registry", "skipped", "none is set, and no config needs one")
        return Finding(
            "registry",
            "failed",
            f"none is set, and {len(models)} models need one, such as {models[0]}",
            "set registry: http://… in router.yaml, or CANARY_ROUTER_REGISTRY",
        )
    server = Mlflow(url, transport)
    try:
        server.ask("registered-models/search", max_results="1")
    except RouterError as error:
        return Finding("registry", "failed", error.message, error.hint)
    skew = _skew(server.date)
    if abs(skew) > MOST_SKEW:
        return Finding(
            "registry",
            "warning",
            f"it answers at {without_credentials(url)}, and its clock differs from ours by {skew:.0f} s",
            "let both machines keep time by NTP (chrony or systemd-timesyncd)",
        )
    return Finding("registry", "ok", f"it answers at {without_credentials(url)}")


def _skew(date: str) -> float:
    """Seconds that a server whose `Date` header this is goes ahead of us."""
    try:
        return parsedate_to_datetime(date).timestamp() - SystemClock().wall()
    except (TypeError, ValueError):
        return 0.0


def git(root: Path) -> Finding:
    """Whether git is there, and `root` in a repository."""
    here = root if root.is_dir() else Path()
    try:
        version = Git(here).read("version").decode(errors="replace").strip()
    except GitMissingError as error:
        return Finding("git", "warning", f"{error.message}: no `plan` against commits", error.hint)
    except RouterError as error:
        return Finding("git", "warning", error.message, "does `git version` work in this shell?")
    try:
        Git(here).read("rev-parse", "--show-prefix")
    except RouterError as error:
        remedy = f"put {root} under git: its history says who deployed what"
        if "dubious ownership" in error.message:
            remedy = (
                f"git does not trust the folder's owner: git config --global --add safe.directory {here.absolute()}"
            )
        return Finding("git", "warning", f"{version}; {root} is not in a repository that it reads", remedy)
    return Finding("git", "ok", version)


def port(check: str, address: str, running: int) -> Finding:
    """Whether `address` can be listened on; `running` is the pid of the router on our state directory, or 0."""
    try:
        listen(address, check).close()
    except RouterError as error:
        if running:
            return Finding(check, "ok", f"{address} is in use; a router runs on our state directory (pid {running})")
        return Finding(check, "failed", error.message, error.hint)
    return Finding(check, "ok", f"{address} is free")
