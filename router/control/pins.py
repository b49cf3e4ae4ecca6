"""What a model's URI was resolved to, and the name that its server and its files go by.

Rules:
1. A pin is a value, and survives a restart as text in the store; text of another release is no pin.
2. A local model whose MLmodel was changed is another version.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec


class Pin(msgspec.Struct, frozen=True):
    """What a URI was resolved to. `key` names its server and directory; `digest` is of its artifacts, once fetched."""

    key: str
    resolved: dict[str, object]
    digest: str = ""

    @property
    def uri(self) -> str:
        """The pinned URI, which always means the same version."""
        return str(self.resolved["resolved"])

    @property
    def version_digest(self) -> str:
        """Identifies the version by URI and artifacts; empty before the artifacts were seen."""
        return hashlib.sha256(f"load\n{self.uri}\n{self.digest}".encode()).hexdigest() if self.digest else ""


def pin_to_text(pin: Pin) -> str:
    """`pin` as JSON, for the store."""
    return msgspec.json.encode(pin).decode()


def pin_from_text(text: str) -> Pin | None:
    """The pin in `text`, or None where it is none of this release."""
    try:
        return msgspec.json.decode(text, type=Pin)
    except msgspec.MsgspecError:
        return None


def key_of(uri: str) -> str:
    """A name for a pinned version, short enough for a socket's path; a local model that was changed is another one."""
    digest = hashlib.sha256(uri.encode())
    try:
        stat = (Path(uri.removeprefix("file://")) / "MLmodel").stat()
    except OSError:
        return digest.hexdigest()[:12]
    digest.update(f"{stat.st_mtime_ns} {stat.st_size}".encode())
    return digest.hexdigest()[:12]
