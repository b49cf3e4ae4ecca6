"""The few questions that commands put to an MLflow server themselves, over its REST API: quick, and without MLflow.

Rules:
1. Credentials come from the environment, as MLflow's own: MLFLOW_TRACKING_TOKEN, or _USERNAME and _PASSWORD. They are
   never told, and no redirection takes them elsewhere.
2. What a server says is checked for its shape before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from router.errors import OperatorError, UpstreamError

TIMEOUT = 10.0
PAGE = 100
MOST_MODELS = 2000
_CHAMPIONS = ("champion", "production", "stable", "prod")


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered model, the version to begin with as stable (may be empty), and why that one."""

    name: str
    version: str = ""
    reason: str = ""
    description: str = ""


class Mlflow:
    """One MLflow server.

    Args:
        url: its address, as `MLFLOW_TRACKING_URI` has it.
        transport: what to talk through; None for the network.
    """

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._transport = transport
        self.date = ""

    def ask(self, path: str, **parameters: str) -> Mapping[str, Any]:
        """What the server answers under /api/2.0/mlflow/`path`.

        Raises:
            OperatorError: it refuses the credentials.
            UpstreamError: it cannot be reached, or answers nonsense.
        """
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        auth = (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user and not token else None
        try:
            with httpx.Client(timeout=TIMEOUT, transport=self._transport, auth=auth, headers=headers) as client:
                response = client.get(f"{self.url}/api/2.0/mlflow/{path}", params=parameters)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UpstreamError(
                f"no MLflow server answers at {self.url}: {error or type(error).__name__}",
                hint="is it running, and can it be reached from here?",
            ) from error
        self.date = response.headers.get("date", "")
        if response.status_code in (401, 403):
            raise OperatorError(
                f"the MLflow server at {self.url} refuses the credentials ({response.status_code})",
                hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
            )
        try:
            response.raise_for_status()
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UpstreamError(
                f"what answers at {self.url} is no MLflow server (status {response.status_code})",
                hint="write the address that MLFLOW_TRACKING_URI would have, such as http://mlflow.internal:5000",
            ) from error
        return answer if isinstance(answer, dict) else {}

    def models(self) -> list[Registered]:
        """Every registered model, at most `MOST_MODELS`; raises as `ask` does."""
        return [_registered(entry) for entry in self._entries()]

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        page = ""
        for _ in range(MOST_MODELS // PAGE):
            more = {"page_token": page} if page else {}
            answer = self.ask("registered-models/search", max_results=str(PAGE), **more)
            found = answer.get("registered_models", [])
            yield from (entry for entry in found if isinstance(entry, dict) and isinstance(entry.get("name"), str))
            page = str(answer.get("next_page_token", ""))
            if not page:
                return


def _registered(entry: Mapping[str, Any]) -> Registered:
    name, description = entry["name"], str(entry.get("description", ""))
    aliases = {
        str(each.get("alias", "")).lower(): str(each.get("version", ""))
        for each in entry.get("aliases") or () if isinstance(each, dict)
    }  # fmt: skip
    chosen = next((alias for alias in _CHAMPIONS if aliases.get(alias, "").isdigit()), "")
    if chosen:
        return Registered(name, aliases[chosen], f"the version with the alias '{chosen}'", description)
    versions = [
        int(str(each.get("version")))
        for each in entry.get("latest_versions") or ()
        if isinstance(each, dict) and str(each.get("version")).isdigit() and each.get("status", "READY") == "READY"
    ]
    newest = str(max(versions)) if versions else ""
    return Registered(name, newest, "the newest version" if newest else "", description)
