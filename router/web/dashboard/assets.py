"""Scripts and styles of the dashboard, from this package alone.

Rules:
1. All are read and compressed once, with the module; a request costs no disk.
2. An address names its content by hash, so that browsers may keep it for ever and never show an old one.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from router.web.problems import problem

ROOT = Path(__file__).parent / "static"
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. `name` is its path under `static`, `hash` the beginning of its SHA-256."""

    name: str
    kind: str
    plain: bytes
    packed: bytes
    hash: str


def load(root: Path = ROOT) -> Mapping[str, Asset]:
    """Every asset, by name."""
    found = sorted(path for path in root.rglob("*") if path.suffix in TYPES)
    return {asset.name: asset for asset in (_asset(root, path) for path in found)}


def _asset(root: Path, path: Path) -> Asset:
    plain = path.read_bytes()
    digest = hashlib.sha256(plain).hexdigest()[:12]
    name = path.relative_to(root).as_posix()
    return Asset(name, TYPES[path.suffix], plain, gzip.compress(plain, 9, mtime=0), digest)


ASSETS = load()


def packs(request: Request) -> bool:
    """Whether whoever asks takes gzip."""
    accepted = request.headers.get("accept-encoding", "").split(",")
    return any(coding.strip().partition(";")[0] == "gzip" for coding in accepted)


def answer(request: Request, assets: Mapping[str, Asset]) -> Response:
    """The asset that `request` names."""
    asset = assets.get(request.path_params["name"])
    if asset is None:
        return problem(404, "nothing is served under this path")
    headers = {
        "content-type": asset.kind,
        "cache-control": "public, max-age=31536000, immutable",
        "vary": "accept-encoding",
        "x-content-type-options": "nosniff",
    }
    if packs(request):
        return Response(asset.packed, headers={**headers, "content-encoding": "gzip"})
    return Response(asset.plain, headers=headers)
