"""What CI says to a pull request of configs: problems at their lines, and the plan as one comment.

Rules:
1. Everything comes from the environment; nothing is put into a shell.
2. What a config holds is escaped: it can neither give the runner commands nor forge another file's annotation.
3. A comment that cannot be posted (a fork's token may not) fails nothing: the plan is in the job's summary as well.
4. Exit 1 where the configs have problems or cannot be compared, whatever became of the comment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

TIMEOUT = 20.0
COMMAND_TIMEOUT = 300.0
PER_PAGE = 100
MOST_PAGES = 30


def main(environ: Mapping[str, str]) -> int:
    """Validates, plans, comments; returns the exit code."""
    config = environ.get("INPUT_CONFIG") or "config"
    found = json.loads(_router("validate", config, "--output", "json")[1] or '{"problems": []}')["problems"]
    for problem in found:
        _say(annotation(problem))
    asked = ["plan", config, "--against", environ.get("INPUT_AGAINST") or "origin/main", "--exit-code"]
    asked += [f"--rate={rate}" for rate in environ.get("INPUT_RATE", "").split()]
    code, text, complaint = _router(*asked, "--output", "markdown")
    _output(environ, problems=len(found), differs="true" if code == 3 else "false")
    if not text:
        _say(f"::error title=canary-router plan::{_escaped(complaint.strip())}")
        return 1
    _append(environ.get("GITHUB_STEP_SUMMARY"), text)
    if environ.get("INPUT_COMMENT", "true") == "true" and environ.get("PULL_REQUEST"):
        _comment(environ, text, only_update=code == 0)
    return 1 if found or code == 1 else 0


def annotation(problem: Mapping[str, Any]) -> str:
    """The workflow command that shows `problem` at its line."""
    path = f"{problem['path']}: " if problem.get("path") else ""
    place = {"file": problem["file"], "line": problem["line"], "col": problem["column"], "title": "canary-router"}
    properties = ",".join(f"{name}={_escaped(str(value), in_property=True)}" for name, value in place.items())
    return f"::error {properties}::{_escaped(path + problem['message'])}"


def _escaped(text: str, *, in_property: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if in_property else text


def _router(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "router.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False)
    return done.returncode, done.stdout, done.stderr


def _comment(environ: Mapping[str, str], text: str, *, only_update: bool) -> None:
    """Updates our comment, or makes it; where nothing changes there need not be one."""
    repository, number = environ["GITHUB_REPOSITORY"], environ["PULL_REQUEST"]
    headers = {
        "authorization": f"Bearer {environ.get('INPUT_TOKEN', '')}",
        "accept": "application/vnd.github+json",
        "x-github-api-version": "2022-11-28",
    }
    address = environ.get("GITHUB_API_URL", "https://api.github.com")
    try:
        with httpx.Client(base_url=address, headers=headers, timeout=TIMEOUT) as forge:
            ours = _find(forge, f"/repos/{repository}/issues/{number}/comments", text.splitlines()[0])
            if ours is not None:
                forge.patch(f"/repos/{repository}/issues/comments/{ours}", json={"body": text}).raise_for_status()
            elif not only_update:
                made = forge.post(f"/repos/{repository}/issues/{number}/comments", json={"body": text})
                made.raise_for_status()
    except httpx.HTTPError as error:
        _say(f"::warning title=canary-router::the plan is not posted, see the summary: {_escaped(str(error)[:200])}")


def _find(forge: httpx.Client, path: str, mark: str) -> int | None:
    """The comment of a bot that begins with `mark`."""
    for comment in _comments(forge, path):
        if str(comment.get("body", "")).startswith(mark) and comment.get("user", {}).get("type") == "Bot":
            return int(comment["id"])
    return None


def _comments(forge: httpx.Client, path: str) -> Iterator[Mapping[str, Any]]:
    for page in range(1, MOST_PAGES + 1):
        answer = forge.get(path, params={"per_page": PER_PAGE, "page": page})
        found: Sequence[Mapping[str, Any]] = answer.raise_for_status().json()
        yield from found
        if len(found) < PER_PAGE:
            return


def _output(environ: Mapping[str, str], **values: object) -> None:
    _append(environ.get("GITHUB_OUTPUT"), "\n".join(f"{name}={value}" for name, value in values.items()))


def _append(path: str | None, text: str) -> None:
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(os.environ))
