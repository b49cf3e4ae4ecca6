"""What a config needs made ready before it can be served, and what is known of it.

Rules:
1. A need is a value: models, versions and regions that need the same share it, and what was done for it.
2. A loaded version is needed by model and URI, because a model's pin of an alias is its own.
3. The digest of a forwarded version is that of its upstream set as written: DNS may change the addresses behind it
   without making another version of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from router.config.schema import ModelConfig
from router.config.serving import AS_USUAL, Serving
from router.core.snapshot import Endpoint, State, VersionFacts


@dataclass(frozen=True, slots=True)
class LoadNeed:
    """`uri` served by a pyfunc server of our own, for `model`, in the way `serving`."""

    model: str
    uri: str
    serving: Serving = AS_USUAL


@dataclass(frozen=True, slots=True)
class Credential:
    """A header whose value comes from an environment variable (`kind` "env") or a file ("file") named `place`."""

    header: str
    kind: str
    place: str


@dataclass(frozen=True, slots=True)
class ForwardNeed:
    """Servers that run already, behind `urls`, to which the model is `upstream_model`."""

    urls: tuple[str, ...]
    upstream_model: str
    credentials: tuple[Credential, ...] = ()

    @property
    def digest(self) -> str:
        """Stable over the order of the URLs and over the credentials (rule 3)."""
        text = "\n".join(["forward", self.upstream_model, *sorted(self.urls)])
        return hashlib.sha256(text.encode()).hexdigest()


Need = LoadNeed | ForwardNeed


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one need. `given_up`: it failed several times in a row (it is still tried).

    `reason` says, for people, why it is not ready; `down`: it was ready once, keeps its weight, and fails again and
    again, which people are shown as unready. `resolved` is what a registry said of it: URI, run, lineage.
    """

    state: State = "warming"
    reason: str = ""
    given_up: bool = False
    down: bool = False
    endpoints: tuple[Endpoint, ...] = ()
    digest: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    resolved: Mapping[str, object] = field(default_factory=dict)

    @property
    def shown(self) -> State:
        """The state as people see it."""
        return "unready" if self.down else self.state

    def for_route(self) -> VersionFacts:
        """The part of it that a route is compiled from."""
        return VersionFacts(self.state, self.endpoints, self.digest, self.headers)


NOTHING_KNOWN = Fact(reason="not looked at yet")


def needs_of(config: ModelConfig, regions: Sequence[str]) -> dict[tuple[str, str], Need]:
    """By `(version, region)`, what each version of `config` needs; a version without a server in a region is absent."""
    needs: dict[tuple[str, str], Need] = {}
    for name, version in config.versions.items():
        for region in regions:
            if version.model_uri is not None:
                needs[name, region] = LoadNeed(config.model, version.model_uri, version.serving)
                continue
            urls = config.upstreams_in(name, region)
            if urls:
                needs[name, region] = ForwardNeed(
                    urls, version.upstream_model or config.model, _credentials_of(config, name)
                )
    return needs


def _credentials_of(config: ModelConfig, version: str) -> tuple[Credential, ...]:
    return tuple(
        Credential(header, "env", ref.env) if ref.env is not None else Credential(header, "file", ref.file or "")
        for header, ref in sorted(config.versions[version].headers.items())
    )
