"""An environment of a model's own, built with uv from what the model requires. Runs in a registry child only.

Rules:
1. Named after its content: the Python version, the model's requirements, what the server needs beside them. Models that
   require the same share one, and one that is there is not built again.
2. It appears complete or not at all; one at a time.
3. Wheels only: building a package from source would run its code here, with the registry's credentials.
4. uv is configured as everywhere: `UV_DEFAULT_INDEX`, `UV_FIND_LINKS`, `UV_OFFLINE` and the like. An index that only
   pip was told of (`PIP_INDEX_URL`) is used as well.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

import router
from router.errors import OperatorError, UpstreamError
from router.registry.files import locked
from router.registry.redact import first_line
from router.registry.types import Prepared

LEAST = (3, 11)
"""The Python that the server's own code needs."""
_OURS = ("httptools", "msgspec", "uvloop")
_MLFLOW = re.compile(r"mlflow(-skinny)?(?![A-Za-z0-9_.-])", re.IGNORECASE)
_PANDAS = re.compile(r"pandas(?![A-Za-z0-9_.-])", re.IGNORECASE)
_FOLLOWED = re.compile(r"(-r|--requirement)[ =]?")
_MEND = "see what uv says, or serve the model with environment: current, or elsewhere and name its upstreams"


def prepare(model: Path, root: Path, *, beside: Sequence[str] | None = None) -> Prepared:
    """The environment for the model in directory `model`, built below `root` if it is not there yet.

    `beside` is what is installed beside the model's own requirements; None: what the server needs.

    Raises:
        OperatorError: the model requires what cannot be had here, or uv is not installed.
        UpstreamError: uv fails, for instance because no index can be reached.
    """
    version = python_of(model)
    wanted = requirements_of(model)
    wanted += needed_beside(wanted) if beside is None else list(beside)
    digest = hashlib.sha256("\n".join([version, *sorted(wanted)]).encode()).hexdigest()
    root.mkdir(parents=True, exist_ok=True)
    folder = root / digest[:16]
    with locked(root / f"{folder.name}.lock"):
        if not (folder / "complete").exists():
            _build(folder, version, wanted)
    return Prepared(python=str(folder / "bin" / "python"), digest=digest)


def python_of(model: Path) -> str:
    """The Python that the model was made with, such as `3.11`; where nobody wrote it down, this one."""
    path = model / "python_env.yaml"
    said = str((yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("python", "")) if path.exists() else ""
    found = re.match(r"(\d+)\.(\d+)", said)
    version = (int(found[1]), int(found[2])) if found else sys.version_info[:2]
    if version < LEAST:
        raise OperatorError(
            f"the model was made with Python {said}, and an isolated environment needs {LEAST[0]}.{LEAST[1]} or newer",
            hint="log the model again with a newer Python, or serve it elsewhere and name its upstreams",
        )
    return f"{version[0]}.{version[1]}"


def requirements_of(model: Path) -> list[str]:
    """The lines of the model's requirements.txt, those of files that it includes among them."""
    path = model / "requirements.txt"
    if not path.exists():
        raise OperatorError(f"{model} has no requirements.txt", hint="log the model again with pip_requirements")
    return _lines(path, model.resolve())


def _lines(path: Path, model: Path) -> list[str]:
    found: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        followed = _FOLLOWED.match(text)
        if followed:
            inside = (path.parent / text[followed.end() :].strip()).resolve()
            if not inside.is_relative_to(model):
                raise OperatorError(f"requirements.txt includes {inside}, which is not the model's", hint=_MEND)
            found += _lines(inside, model)
        elif text:
            found.append(text)
    return found


def needed_beside(requirements: Sequence[str]) -> list[str]:
    """What the server needs and the model does not require by itself, in the versions that serve here."""
    names = list(_OURS)
    if not any(_MLFLOW.match(line) for line in requirements):
        names.append("mlflow-skinny")
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in names]
    return pinned if any(_PANDAS.match(line) for line in requirements) else [*pinned, "pandas"]


def _build(folder: Path, version: str, wanted: Sequence[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    # Where models run as users of their own, they have to read it.
    before = os.umask(0o022)
    try:
        here = version == f"{sys.version_info[0]}.{sys.version_info[1]}"
        _uv(["venv", "--quiet", "--no-project", "--python", sys.executable if here else version, str(folder)])
        listed = folder / "requirements.txt"
        listed.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        install = ["pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "--compile-bytecode"]
        _uv([*install, "--only-binary", ":all:", "-r", str(listed)])
        (packages,) = (folder / "lib").glob("python*/site-packages")
        (packages / "router").symlink_to(Path(router.__file__).resolve().parent)
        (folder / "complete").write_text(json.dumps(list(wanted)), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.umask(before)


def _uv(arguments: Sequence[str]) -> None:
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.exists() else shutil.which("uv")
    if program is None:
        raise OperatorError(
            "environment: isolated needs uv, which is not installed", hint="pip install uv, beside the router"
        )
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, env=_environment(os.environ), check=False
    )
    if done.returncode:
        said = [line.strip(" ╰─▶×│├") for line in done.stderr.splitlines() if line.strip()]
        raise UpstreamError(f"the model's environment cannot be built: {first_line(' '.join(said))}", hint=_MEND)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    told = dict(environ)
    told.pop("VIRTUAL_ENV", None)
    if "PIP_INDEX_URL" in told and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & set(told):
        told["UV_DEFAULT_INDEX"] = told["PIP_INDEX_URL"]
    return told
