"""Debian's Chromium under Playwright, which notices what a person would report.

Rules:
1. `Tab.check` fails on anything in the console, on what is wider than the window, and on what axe calls serious.
2. A screenshot of every look is kept where `CANARY_ROUTER_SCREENSHOTS` says, or in the test's own directory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

AXE = Path(__file__).parent / "vendor" / "axe-core-4.11.0.min.js"
SEVERE = {"serious", "critical"}
Scheme = Literal["light", "dark"]
LOOKS: tuple[tuple[int, Scheme], ...] = ((1440, "light"), (1440, "dark"), (390, "light"), (390, "dark"))


@dataclass
class Tab:
    """One page of one browser; `said` is what its console told."""

    page: Page
    shots: Path
    said: list[str] = field(default_factory=list)

    def check(self, name: str, width: int, scheme: str) -> None:
        """Rules 1 and 2."""
        self.page.screenshot(path=self.shots / f"{name}-{width}-{scheme}.png", full_page=True)
        assert not self.said, f"{name}: {self.said}"
        wider = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wider <= 0, f"{name} is {wider} pixels wider than the window of {width}"
        findings = self.findings()
        assert not findings, "\n".join([name, *findings])

    def findings(self) -> list[str]:
        """What axe finds that matters."""
        # From outside of the page's world, where its Content-Security-Policy holds no sway.
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document)")
        return [
            f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
            for one in found["violations"]
            if one["impact"] in SEVERE
        ]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(
    browser: Browser, base: str, shots: Path, *, width: int = 1440, scheme: Scheme = "light", scripts: bool = True
) -> Iterator[Tab]:
    """A tab of a browser that knows nothing of others; paths are those of `base`."""
    kept = Path(os.environ.get("CANARY_ROUTER_SCREENSHOTS", shots))
    kept.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(
        base_url=base, viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
    )
    opened = Tab(context.new_page(), kept)
    opened.page.set_default_timeout(15_000)
    opened.page.on("console", lambda message: opened.said.append(f"{message.type}: {message.text}"))
    opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
    try:
        yield opened
    finally:
        context.close()
