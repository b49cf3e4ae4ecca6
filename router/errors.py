"""The errors of the router, sorted by whose fault they are.

Rules:
1. Every boundary maps foreign exceptions to this tree in one place and keeps the cause.
2. No HTTP status codes here: only the edge that answers a client knows how a fault looks on the wire.
3. A message says what is wrong, where, and how to mend it; it never holds a secret or a request's body.
"""

from __future__ import annotations


class RouterError(Exception):
    """Root of everything the router raises on purpose.

    `hint`, where present, says how to mend it and is shown on a line of its own.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def in_a_line(self) -> str:
        """Message and hint on one line, for where lines are entries."""
        return " ".join((f"{self.message} ({self.hint})" if self.hint else self.message).split())

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class ClientError(RouterError):
    """The caller of the prediction endpoint or of the admin API asked for something impossible."""


class UpstreamError(RouterError):
    """A model server, a registry or another system the router depends on failed."""


class OperatorError(RouterError):
    """A config, a setting or the environment is wrong; an operator has to mend it."""


class InternalError(RouterError):
    """The router broke one of its own rules: a bug."""
