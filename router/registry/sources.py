"""Where models may come from: the operator's allow-list, against what a URI was resolved to.

Rules:
1. An entry is a prefix that ends where a name or a folder ends: `models:/` (every registered model), `models:/fraud`
   (that one), `runs:/`, `s3://bucket/models`, `/srv/models`. No entries: anything goes.
2. Both have to be allowed: what the URI was pinned to, and the place that the registry says its files are in, unless
   the registry keeps them itself. So nobody who can register a model can have the router read any file.
3. Paths are compared as they really are, links followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from router.errors import OperatorError

_KEPT_BY_THE_REGISTRY = ("models:/", "runs:/", "mlflow-artifacts:")
_HINT = "name it in `model_sources` of router.yaml, or take the model from one of the places there"


def check(uri: str, resolved: str, source: str, allowed: Sequence[str]) -> None:
    """Raises OperatorError where the model `uri` comes from elsewhere than `allowed`."""
    if not allowed:
        return
    for place in dict.fromkeys((resolved, source)):
        kept = place is not resolved and place.startswith(_KEPT_BY_THE_REGISTRY)
        if place and not kept and not _covered(place, allowed):
            raise OperatorError(f"{uri} comes from {place}, where no model may come from", hint=_HINT)


def _covered(place: str, allowed: Sequence[str]) -> bool:
    real = _real(place)
    return any(real == entry or real.startswith(entry + "/") for entry in (_real(each) for each in allowed))


def _real(place: str) -> str:
    path = place.removeprefix("file://")
    return str(Path(path).resolve()) if path.startswith("/") else place.rstrip("/")
