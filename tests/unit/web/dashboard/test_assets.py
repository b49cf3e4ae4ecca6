from __future__ import annotations

import hashlib
import json

from router.web.dashboard.assets import ASSETS, ROOT

VENDOR = ROOT / "vendor"
MANIFEST = json.loads((VENDOR / "manifest.json").read_text())


def test_every_foreign_file_is_the_one_that_was_published() -> None:
    foreign = {path.name for path in VENDOR.iterdir() if path.suffix in {".js", ".css"}}
    assert foreign == set(MANIFEST)
    for name, told in MANIFEST.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == told["sha256"], name
        assert told["version"] in name


def test_every_foreign_package_brings_its_licence() -> None:
    for told in MANIFEST.values():
        assert (VENDOR / f"{told['package'].removesuffix('.org')}.LICENSE").read_text().strip()


def test_what_the_first_page_needs_is_small() -> None:
    names = (
        "vendor/htmx-2.0.8.min.js",
        "vendor/htmx-ext-sse-2.2.4.min.js",
        "dashboard.css",
        "dashboard.js",
        "mark.svg",
    )
    assert sum(len(ASSETS[name].packed) for name in names) < 50_000
