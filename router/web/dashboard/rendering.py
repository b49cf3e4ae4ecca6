"""Pages from templates.

Rules:
1. Everything that comes from a config, a registry or a person is escaped; no page has a script or a style within it.
2. A page and the parts of it that are sent later are made from the same templates: what is live says the same.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from router.clock import Clock
from router.web.dashboard import words
from router.web.dashboard.assets import Asset, packs
from router.web.dashboard.audit import compact
from router.web.dashboard.figures import quantile

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "vary": "accept-encoding",
}
TEMPLATES = {path.name: path.read_text() for path in (Path(__file__).parent / "templates").glob("*.html")}
"""Read with the module: no request waits for the disk."""

FILTERS = ("count", "percent", "weight", "rate", "duration", "size", "left", "span", "moment", "clock", "evidence")


class Pages:
    """Makes HTML of templates."""

    def __init__(self, assets: Mapping[str, Asset], clock: Clock) -> None:
        self._environment = Environment(
            loader=DictLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update({name: getattr(words, name) for name in FILTERS})
        self._environment.filters["ago"] = lambda moment: words.ago(moment, clock.wall())
        self._environment.filters["compact"] = compact
        self._environment.filters["q"] = quantile
        self._environment.globals["asset"] = lambda name: f"/static/{assets[name].hash}/{name}"
        # Compiled beforehand: no request waits for the compiler.
        for template in self._environment.list_templates():
            self._environment.get_template(template)

    def part(self, template: str, shown: Mapping[str, Any]) -> str:
        """A part of a page."""
        return self._environment.get_template(template).render(shown)

    def page(self, request: Request, template: str, shown: Mapping[str, Any], status: int = 200) -> Response:
        """A whole page, compressed where the browser takes that."""
        body = self.part(template, shown).encode()
        if not packs(request):
            return Response(body, status, HEADERS)
        return Response(gzip.compress(body, 5, mtime=0), status, {**HEADERS, "content-encoding": "gzip"})
