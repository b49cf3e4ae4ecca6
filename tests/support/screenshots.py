"""Takes pictures of a running router for the README: `python -m tests.support.screenshots URL MODEL`.

Rules:
1. What is shown is what the router says: nothing is staged here. `canary-router demo` has something to show.
2. Pictures are small: 1200 pixels wide, one of each page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.browser import Scheme, chromium, tab

TARGET = Path(__file__).parents[2] / "docs" / "screenshots"


def main(admin: str, model: str) -> None:
    """Takes them all."""
    TARGET.mkdir(exist_ok=True)
    pictures: tuple[tuple[str, str, int, Scheme], ...] = (
        ("models", "/", 420, "light"),
        ("model", f"/models/{model}?window=all", 1080, "light"),
        ("model-dark", f"/models/{model}?window=all", 1080, "dark"),
    )
    with chromium() as browser:
        for name, path, height, scheme in pictures:
            with tab(browser, admin, TARGET, width=1200, scheme=scheme) as opened:
                opened.page.set_viewport_size({"width": 1200, "height": height})
                opened.page.goto(path)
                opened.page.locator("h1").wait_for()
                opened.page.screenshot(path=TARGET / f"{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:3])
