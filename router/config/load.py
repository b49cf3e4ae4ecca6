"""Files → configs and problems.

Rules:
1. A model's config exists only when nothing at all is wrong with its file; one bad file never stops another model.
2. Nothing that looks like a config is skipped in silence: another ending or a folder is a problem. Names that begin
   with a dot are not looked at (editors' files, a ConfigMap's `..data`).
3. A file that may be a symbolic link is followed; what is not a regular file behind it is never opened.
4. Without a readable regions.yaml that names them, any region is allowed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from router.config.checks import check_model
from router.config.fields import DEFAULT_REGION
from router.config.names import check_name
from router.config.problems import Problem, Report, closest
from router.config.schema import ModelConfig, RegionsFile
from router.config.shape import read_shape, read_tree
from router.config.yaml import MAX_BYTES, List, Map

__all__ = [
    "Loaded",
    "Problem",
    "digest_of",
    "load_model",
    "load_regions",
    "load_repository",
    "not_read",
    "unknown_regions",
]

MODELS = "models"
REGIONS = "regions.yaml"
SUFFIX = ".yaml"
_FILES = {"regions": REGIONS, "router": "router.yaml"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a config repository says.

    `sources` has the text of the good models. `examined` counts model files, good and bad. `regions` is None where
    nobody wrote them down. `complete` is false where the models could not be listed or there are none: then an
    absent model must not be taken for a removed one.
    """

    configs: Mapping[str, ModelConfig]
    problems: tuple[Problem, ...]
    sources: Mapping[str, str]
    examined: int = 0
    regions: tuple[str, ...] | None = None
    complete: bool = True


def load_repository(root: Path) -> Loaded:
    """Reads `root/models/*.yaml` and `root/regions.yaml`. Never raises for what it finds there."""
    problems: list[Problem] = []
    models = _model_files(root, problems)
    regions = _regions_of(root, problems)
    configs: dict[str, ModelConfig] = {}
    sources: dict[str, str] = {}
    for path in models:
        name = path.name.removesuffix(SUFFIX)
        try:
            text = read_file(path)
        except OSError as error:
            problems.append(_unreadable(path, error, model=_model_of(name)))
            continue
        config, found = load_model(name, text, file=str(path), regions=regions, root=root)
        problems += found
        if config is not None:
            configs[name] = config
            sources[name] = text.decode("utf-8")
    return Loaded(configs, tuple(problems), sources, len(models), regions, bool(models))


def load_model(
    name: str, text: bytes, *, file: str, regions: Sequence[str] | None, root: Path | None = None
) -> tuple[ModelConfig | None, tuple[Problem, ...]]:
    """The config in `text`, or None and what is wrong with it.

    Args:
        name: the model's name, which is the file's without its ending.
        text: the file's bytes.
        file: what to call the file in problems.
        regions: the regions there are; None allows any.
        root: the repository's folder, where relative paths in the config start; by default the folder above the
            one that `file` lies in.
    """
    report = Report(file, _model_of(name))
    try:
        check_name(name)
    except ValueError as error:
        report.add(1, 1, (), f"the file's name is the model's name: {error}")
    tree = read_tree(text, report)
    if tree is None:
        return None, report.problems()
    folder = (root if root is not None else Path(file).parent.parent).absolute()
    config = read_shape(ModelConfig, tree, report, folder=folder, later="model")
    if isinstance(tree, Map):
        check_model(tree, name, regions, report)
    problems = report.problems()
    return (None if problems else config), problems


def load_regions(text: bytes, *, file: str) -> tuple[tuple[str, ...] | None, tuple[Problem, ...]]:
    """The regions that a regions.yaml names, or None and what is wrong with it."""
    report = Report(file)
    tree = read_tree(text, report)
    if tree is None:
        return None, report.problems()
    found = read_shape(RegionsFile, tree, report, later="regions")
    _check_repeated(tree, report)
    problems = report.problems()
    return (None if problems or found is None else found.regions), problems


def unknown_regions(served: Iterable[str], regions: Sequence[str]) -> list[str]:
    """Those of `served` that are not among `regions`; 'default' is always known."""
    known = {*regions, DEFAULT_REGION}
    return [region for region in served if region not in known]


def digest_of(config: ModelConfig) -> str:
    """SHA-256 (hex) of what `config` means: the same for files that differ in comments, spelling or order only.

    The order of versions counts: it says which canary keeps its users.
    """
    content = config.model_dump(mode="json")
    content["versions"] = list(content["versions"].items())
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_file(path: Path) -> bytes:
    """The content of `path`, cut right after the size at which it is refused anyway.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    if path.exists() and not path.is_file():
        # Opening a pipe or a device could wait for ever.
        raise OSError(0, "not a regular file")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _model_of(name: str) -> str:
    try:
        return check_name(name)
    except ValueError:
        return ""


def _check_repeated(tree: object, report: Report) -> None:
    names = tree.entries.get("regions") if isinstance(tree, Map) else None
    seen: set[str] = set()
    for index, item in enumerate(names.value.items if names and isinstance(names.value, List) else ()):
        text = getattr(item, "text", None)
        if text in seen:
            report.add(item.line, item.column, ("regions", index), "this region is here twice")
        if text is not None:
            seen.add(text)


def _regions_of(root: Path, problems: list[Problem]) -> tuple[str, ...] | None:
    path = root / REGIONS
    try:
        text = read_file(path)
    except OSError as error:
        absent = isinstance(error, FileNotFoundError | NotADirectoryError) and not path.is_symlink()
        problems += [] if absent else [_unreadable(path, error)]
        return None
    regions, found = load_regions(text, file=str(path))
    problems += found
    return regions


def _model_files(root: Path, problems: list[Problem]) -> list[Path]:
    """The model files, by name. What is wrong with the folders themselves goes to `problems`."""
    folder = root / MODELS
    try:
        files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        problems += not_read(root)
    except OSError as error:
        problems.append(_no_folder(root, folder, error))
        return []
    models = [path for path in files if path.name.endswith(SUFFIX)]
    if not models:
        problems.append(_at(folder, "holds no model; write models/<model>.yaml, one file for each"))
    return models


def not_read(root: Path) -> list[Problem]:
    """What lies in the repository as if it were a config, and is none because of its name.

    Raises:
        OSError: a folder cannot be read.
    """
    files = [path for path in sorted((root / MODELS).iterdir()) if not path.name.startswith(".")]
    beside = [problem for path in sorted(root.iterdir()) if (problem := _misnamed(path)) is not None]
    return beside + [problem for path in files if (problem := _not_a_model(path)) is not None]


def _no_folder(root: Path, folder: Path, error: OSError) -> Problem:
    if root.is_dir() and not folder.exists():
        above = f" (did you mean '{root.parent}'?)" if root.name == MODELS else ""
        return _at(root, f"holds no folder 'models', where each model has its <model>.yaml{above}")
    at = folder if root.is_dir() else root
    return _at(at, f"cannot be read as a folder of configs: {(error.strerror or str(error)).lower()}")


def _not_a_model(path: Path) -> Problem | None:
    if path.name.endswith(SUFFIX):
        return None
    if path.suffix.lower() in {".yml", SUFFIX}:
        return _at(path, f"the ending must be '.yaml'; rename it to {path.stem}.yaml")
    if path.is_dir():
        return _at(path, "is a folder; models lie directly in models/, one file for each")
    return None


def _misnamed(path: Path) -> Problem | None:
    """A file beside models/ that is meant to be regions.yaml or router.yaml, and is not read, because of its name."""
    if path.name in _FILES.values() or path.suffix.lower() not in {".yml", SUFFIX}:
        return None
    meant = closest(path.stem, _FILES)
    return _at(path, f"no file of this name is read (did you mean '{_FILES[meant]}'?)") if meant else None


def _unreadable(path: Path, error: OSError, model: str = "") -> Problem:
    return _at(path, f"cannot be read: {(error.strerror or str(error)).lower()}", model)


def _at(path: Path, message: str, model: str = "") -> Problem:
    return Problem(str(path), 1, 1, "", message, model)
