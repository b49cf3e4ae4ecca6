"""What router.yaml may say, and what the router's processes get from it.

Rules:
1. Every key has a default that works on one machine; there is no key that must be set.
2. `RouterFile` is what one source (the file, the variables, the flags) says; `Settings` is all of them together.
3. Durations are seconds; `workers` 0 means one for each core.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from router.config import names
from router.config.fields import Duration, Name, described
from router.config.notify_schema import Notify
from router.config.problems import printable, quote

Role = Literal["operator", "viewer"]
ReadToken = Literal["required", "loopback"]

MAX_WORKERS = 256
SINGLE = ""
"""Stands for the region of a single listener until `region` is known."""

_SHA256 = "^[0-9a-f]{64}$"
_ADDRESS: dict[str, Any] = {"type": "string", "pattern": "^.*:[0-9]{1,5}$"}
_NAMES = {"pattern": names.NAME_PATTERN}


def _single(value: object) -> object:
    return {SINGLE: value} if isinstance(value, str) else value


def _region_name(text: str) -> str:
    return text if text == SINGLE else names.check_name(text)


def _distinct(listen: Mapping[str, str]) -> Mapping[str, str]:
    taken = [address for address in listen.values() if not address.endswith(":0")]
    if len(set(taken)) != len(taken):
        raise ValueError("two regions cannot listen on the same address")
    return listen


def _admin(text: str) -> str:
    # Commands find the admin port under the same variable, as a URL.
    return names.check_address(text.removeprefix("http://").rstrip("/") if is_listening_url(text) else text)


def is_listening_url(text: str) -> bool:
    """Whether `text` is a URL that also says where to listen: `http://HOST:PORT`."""
    return re.fullmatch(r"http://[^/]+:[0-9]+/?", text) is not None


def _workers(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value == "auto":
        return 0
    if not re.fullmatch("[1-9][0-9]{0,3}", value) or int(value) > MAX_WORKERS:
        raise ValueError(f"{quote(value)} must be auto or a number from 1 to {MAX_WORKERS}")
    return int(value)


def _path(value: object) -> object:
    if isinstance(value, str) and (not value or not value.isprintable()):
        raise ValueError("must be the path of a folder")
    return value


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"{quote(text)} is no IP address or network: {printable(str(error)[:80])}") from error


def _model_source(text: str) -> str:
    if not text.isprintable() or not re.match(r"/|[a-z][a-z0-9+.-]*:/", text):
        raise ValueError(
            f"{quote(text)} must be models:/, models:/NAME, runs:/, an absolute path or the URI of a store"
        )
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch(_SHA256, text.lower()):
        raise ValueError(
            "must be the SHA-256 of the token: 64 hexadecimal digits; the token itself is never written here"
        )
    return text.lower()


def _choice(*allowed: str) -> BeforeValidator:
    def check(value: object) -> object:
        if value not in allowed:
            shown = quote(value) if isinstance(value, str) else "that"
            raise ValueError(f"must be {' or '.join(allowed)}, not {shown}")
        return value

    return BeforeValidator(check)


def _unique_names(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    if len({token.name for token in tokens}) != len(tokens):
        raise ValueError("two tokens have the same name, which the audit trail could not tell apart")
    return tokens


Address = Annotated[str, AfterValidator(names.check_address), described(_ADDRESS)]
Listen = Annotated[
    Mapping[Annotated[str, AfterValidator(_region_name)], Address],
    BeforeValidator(_single),
    Field(min_length=1),
    AfterValidator(_distinct),
    described({"anyOf": [_ADDRESS, {"type": "object", "additionalProperties": _ADDRESS, "propertyNames": _NAMES}]}),
]
Admin = Annotated[str, AfterValidator(_admin), described(_ADDRESS)]
Workers = Annotated[
    int,
    BeforeValidator(_workers),
    described(
        {
            "anyOf": [
                {"type": "string", "pattern": "^(auto|[1-9][0-9]{0,3})$"},
                {"type": "integer", "minimum": 1, "maximum": MAX_WORKERS},
            ]
        }
    ),
]
Folder = Annotated[Path, BeforeValidator(_path), described({"type": "string", "minLength": 1})]
RegistryUrl = Annotated[
    str, AfterValidator(names.check_url), described({"type": "string", "pattern": names.URL_PATTERN})
]
Network = Annotated[str, AfterValidator(_network), described({"type": "string"})]
ModelSource = Annotated[
    str, AfterValidator(_model_source), described({"type": "string", "pattern": "^(/|[a-z][a-z0-9+.-]*:/)"})
]
Hash = Annotated[
    str, AfterValidator(_sha256), described({"type": ["string", "number"], "pattern": "^[0-9a-fA-F]{64}$"})
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Token(_Frozen):
    """Who may call the admin API, and as what. Only the token's hash is kept."""

    name: Name = Field(description="Who it is: the actor in the audit trail.")
    role: Annotated[Role, _choice(*get_args(Role))] = Field(description="operator changes things, viewer reads.")
    sha256: Hash = Field(description="SHA-256 of the token, in hexadecimal; the token is random, at least 128 bits.")


Tokens = Annotated[tuple[Token, ...], AfterValidator(_unique_names)]


class _Common(_Frozen):
    admin: Admin = Field("127.0.0.1:9090", description="Where the admin port listens: HOST:PORT.")
    workers: Workers = Field(0, description="Data-plane processes: a number, or auto (default) for one per core.")
    state: Folder = Field(
        Path("state"),
        description="Folder of database, sockets and fetched models; locked, one router each (default ./state, "
        "relative to where the router is started).",
    )
    registry: RegistryUrl | None = Field(
        None, description="URL of the MLflow server; credentials come from MLFLOW_TRACKING_USERNAME and the like."
    )
    model_sources: tuple[ModelSource, ...] = Field(
        (),
        description="Where models may come from: models:/, models:/NAME, runs:/, folders, URIs of stores (default "
        "anywhere).",
    )
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="Addresses or networks of proxies whose X-Forwarded-For and -Proto are believed (default none)."
    )
    drain_delay: Duration = Field(
        0.0, description="On SIGTERM: not ready for this long before listening stops (default 0s)."
    )
    grace: Duration = Field(30.0, description="How long what is in flight may take to finish (default 30s).")
    tokens: Tokens = Field((), description="Who may call the admin API: {name, role, sha256} each.")
    read_token: Annotated[ReadToken, _choice(*get_args(ReadToken))] = Field(
        "loopback", description="Reading without a token: loopback (default) allows it there, required never."
    )
    notify: tuple[Notify, ...] = Field(
        (), description="Whom to tell of rollbacks and the like: {url, kind, secret, on} each (default nobody)."
    )


class RouterFile(_Common):
    """How this router runs. Every key has a flag and a variable too; flag over variable over file."""

    listen: Listen = Field(
        {SINGLE: "0.0.0.0:8080"},
        description="Where predictions are served: HOST:PORT, or a map of them by region (default 0.0.0.0:8080).",
    )
    region: Name = Field("default", description="The region of a single listener (default: default).")


class Settings(_Common):
    """How this router runs, from all sources. `listen` maps each served region to its `HOST:PORT`."""

    listen: Mapping[str, str]
    config: Path | None = None
