"""What a model's config means, once it was read and found right.

Rules:
1. Frozen, and complete: every default is filled in.
2. Weights are hundredths of a percent, durations seconds, sizes bytes.
3. No I/O, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

DEFAULT_REGION = "default"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SecretRef(_Frozen):
    """Where a credential header's value comes from: exactly one of an environment variable or a file."""

    env: str | None = None
    file: str | None = None


class Version(_Frozen):
    """One version: exactly one of `model_uri` (load) and `upstreams` (forward; by region, `default` for the rest)."""

    model_uri: str | None = None
    upstreams: Mapping[str, tuple[str, ...]] | None = None
    registered: str | None = None
    headers: Mapping[str, SecretRef] = {}
    upstream_model: str | None = None


class Stickiness(_Frozen):
    """Which request header or cookie holds the key; exactly one of the two."""

    header: str | None = None
    cookie: str | None = None


class ModelConfig(_Frozen):
    """One model's config. `versions` keeps the order of the file; `regions` maps region → version → weight."""

    model: str
    owner: str = ""
    description: str = ""
    versions: Mapping[str, Version]
    stable: Mapping[str, str]
    regions: Mapping[str, Mapping[str, int]]
    stickiness: Stickiness | None = None
    timeout: float = 30.0
    attempt_timeout: float = 15.0
    idempotent: bool = False
    fallback: bool = False
    max_body: int = 10 * 1024 * 1024
    buffer: int = 1024 * 1024
    allow_override: bool = False

    def stable_in(self, region: str) -> str:
        """The stable version of `region`."""
        return self.stable.get(region) or self.stable[DEFAULT_REGION]

    def weights_in(self, region: str) -> Mapping[str, int]:
        """Declared weights of `region` in hundredths of a percent, summing to 10 000; 0 is left out or written."""
        return self.regions.get(region) or self.regions.get(DEFAULT_REGION) or {self.stable_in(region): 10_000}

    def upstreams_in(self, version: str, region: str) -> tuple[str, ...]:
        """The URLs of a forwarded version in `region`; empty for a loaded one."""
        upstreams = self.versions[version].upstreams or {}
        return upstreams.get(region) or upstreams.get(DEFAULT_REGION) or ()
