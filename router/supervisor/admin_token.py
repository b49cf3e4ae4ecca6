"""Nothing to set up to try it: a token for the operator on this machine.

Rules:
1. Only where no token is configured and the admin address is loopback.
2. The token is random, of 256 bits, in `<state>/admin-token` with mode 0600; the children get its SHA-256 alone.
3. It stays the same over restarts; where rule 1 does not hold any more, the file is removed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

from router.config.settings import Settings, Token
from router.supervisor.addresses import is_loopback
from router.supervisor.state import StateDirectory

FILE_NAME = "admin-token"
ACTOR = "admin"

_WHOLE = re.compile(r"[A-Za-z0-9_-]{43}")


def with_admin_token(settings: Settings, state: StateDirectory) -> Settings:
    """`settings` as the children get them: with the admin token's hash, where rule 1 asks for one.

    Raises:
        OperatorError: the token cannot be written.
    """
    path = state.path / FILE_NAME
    if settings.tokens or not is_loopback(settings.admin):
        path.unlink(missing_ok=True)
        return settings
    token = _kept(path) or secrets.token_urlsafe(32)
    state.write(path, token + "\n")
    digest = hashlib.sha256(token.encode()).hexdigest()
    return settings.model_copy(update={"tokens": (Token(name=ACTOR, role="operator", sha256=digest),)})


def _kept(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if _WHOLE.fullmatch(text) else ""
