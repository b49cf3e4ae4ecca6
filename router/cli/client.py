"""How a command finds a running router and talks to its admin port.

Rules:
1. The address is what `--admin` says, else CANARY_ROUTER_ADMIN, else where the router on this state directory really
   listens, else what the settings say.
2. The token is from `--token-file`, else CANARY_ROUTER_TOKEN, else `<state>/admin-token`. The last one is only ever
   sent to this machine.
3. Every failure is told with the address and a way to mend it; a token never is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
import httpx

from router.config.settings import Settings, load_settings
from router.errors import ClientError, OperatorError, UpstreamError

F = TypeVar("F", bound=Callable[..., Any])

TIMEOUT = 10.0
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def admin_options(command: F) -> F:
    """Adds the options that say which router is meant: `admin`, `token_file`, `settings`, `state`."""
    for option in (
        click.option("--state", type=Path, metavar="DIR", help="The router's state directory.  [default: ./state]"),
        click.option("--settings", type=Path, metavar="FILE", help="The router's router.yaml."),
        click.option("--token-file", type=Path, metavar="FILE", help="Holds the token.  [default: STATE/admin-token]"),
        click.option("--admin", metavar="URL", help="The admin port.  [default: as the settings say]"),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class AdminClient:
    """One router's admin port; `token` may be empty."""

    url: str
    token: str = ""
    transport: httpx.BaseTransport | None = None

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """The JSON under `/api/v1` + `path`.

        Raises:
            ClientError: there is no such thing.
            OperatorError: the token is missing, wrong, or may not.
            UpstreamError: no router answers there, or not as one.
        """
        return self._ask("GET", path, params=dict(parameters or {}))

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """The JSON answer to `body` under `/api/v1` + `path`; raises as `get` does."""
        return self._ask("POST", path, json=dict(body))

    def _ask(self, method: str, path: str, **what: Any) -> Any:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            with httpx.Client(base_url=self.url, timeout=TIMEOUT, transport=self.transport, trust_env=False) as client:
                response = client.request(method, f"/api/v1{path}", headers=headers, **what)
            return self._read(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UpstreamError(
                f"no router answers at {self.url}: {error or type(error).__name__}",
                hint="is it running? start it with `canary-router serve`, or name another with --admin URL",
            ) from error

    def _read(self, response: httpx.Response) -> Any:
        if response.status_code in (401, 403):
            raise OperatorError(
                f"the router at {self.url} refuses: {_detail(response)}",
                hint="name the file that holds your token with --token-file, or set CANARY_ROUTER_TOKEN",
            )
        if 400 <= response.status_code < 500:
            raise ClientError(_detail(response))
        if response.status_code == httpx.codes.INSUFFICIENT_STORAGE:
            raise UpstreamError(_detail(response))
        try:
            response.raise_for_status()
            return response.json()
        except ValueError as error:
            raise UpstreamError(
                f"what answers at {self.url} is no canary-router",
                hint="--admin must name the admin port, which `serve` prints when it starts",
            ) from error


def find_router(admin: str | None, token_file: Path | None, settings: Path | None, state: Path | None) -> AdminClient:
    """The router that the options, the environment and the settings mean.

    Raises:
        OperatorError: the settings or the token file cannot be read.
    """
    # Here the variable may also be a URL, which as a setting it may not.
    environ = dict(os.environ)
    named = environ.pop("CANARY_ROUTER_ADMIN", None)
    loaded = load_settings(settings, environ, {"state": state})
    url = _as_url(admin or named or _really_at(loaded.state) or loaded.admin)
    return AdminClient(url, _token(url, token_file, loaded))


def _as_url(address: str) -> str:
    url = address if "://" in address else f"http://{address}"
    # An address to listen on every interface is none to connect to.
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:").rstrip("/")


def _really_at(state: Path) -> str | None:
    try:
        return str(json.loads((state / "serving.json").read_text(encoding="utf-8"))["admin"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _token(url: str, token_file: Path | None, settings: Settings) -> str:
    if token_file is not None:
        try:
            return token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorError(f"the token file {token_file} cannot be read: {error}") from error
    if token := os.environ.get("CANARY_ROUTER_TOKEN"):
        return token.strip()
    if urlsplit(url).hostname in LOOPBACK:
        try:
            return (settings.state / "admin-token").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""
    return ""


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"
