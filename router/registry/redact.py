"""Credentials taken out of texts that people will read.

Rules:
1. A URL's user and password never reach a message.
2. Foreign texts are shortened to their first line: the rest is a stack, a page of HTML or somebody's data.
"""

from __future__ import annotations

import re

_USERINFO = re.compile(r"//[^/@\s]*@")
_LONGEST = 300


def without_credentials(text: str) -> str:
    """`text`, with `user:password@` taken out of every URL in it."""
    return _USERINFO.sub("//", text)


def first_line(text: str) -> str:
    """The first line of `text` that says something, without credentials, at most 300 characters."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    clean = without_credentials(line)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"
