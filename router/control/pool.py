"""The endpoints of one forwarded version: which there are, which answer, and whether the version is admitted.

Rules:
1. Pure: it is told what a round of looking found, and answers with a fact.
2. Admission needs one endpoint that answers, and comes once; what happens later is the version's own failure.
3. An endpoint is unhealthy after three failed probes in a row, healthy after one answer. Where none is healthy all
   are shown as healthy: they are all tried.
4. A name that cannot be resolved any more keeps its addresses; credentials that cannot be read any more keep their
   values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from router.control.backoff import Backoff
from router.control.needs import Fact, ForwardNeed
from router.core.snapshot import Endpoint, State

UNHEALTHY_AFTER = 3


@dataclass(frozen=True, slots=True)
class Found:
    """What was found before any probe: addresses of each URL, and headers; or why there are none.

    `endpoints` maps a URL to its endpoints; a URL whose name did not resolve is absent, with a line in `reasons`.
    """

    endpoints: Mapping[str, tuple[Endpoint, ...]]
    headers: tuple[tuple[str, str], ...] | None
    reasons: tuple[str, ...] = ()


class Pool:
    """The state of one need. `admitted`: it was, in an earlier life."""

    def __init__(self, need: ForwardNeed, *, admitted: bool) -> None:
        self._need = need
        self._admitted = admitted
        self._by_url: dict[str, tuple[Endpoint, ...]] = {}
        self._headers: tuple[tuple[str, str], ...] | None = () if not need.credentials else None
        self._failures: dict[Endpoint, int] = {}
        self._reasons: tuple[str, ...] = ("not looked at yet",)
        self.backoff = Backoff(0.25, 5.0)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every endpoint, in the order of the URLs, each once."""
        return tuple(dict.fromkeys(end for url in self._need.urls for end in self._by_url.get(url, ())))

    @property
    def headers(self) -> tuple[tuple[str, str], ...] | None:
        """The credential headers; None where they cannot be had."""
        return self._headers

    @property
    def admitted(self) -> bool:
        """Whether it may have weight."""
        return self._admitted and bool(self._by_url) and self._headers is not None

    def find(self, found: Found) -> None:
        """Takes over addresses and headers (rule 4)."""
        self._by_url |= found.endpoints
        if found.headers is not None:
            self._headers = found.headers
        self._reasons = found.reasons
        self._failures = {endpoint: self._failures.get(endpoint, 0) for endpoint in self.endpoints}

    def probed(self, results: Mapping[Endpoint, str]) -> None:
        """Takes over a round of probes: for each endpoint "" where it answered, or why it did not."""
        for endpoint, reason in results.items():
            self._failures[endpoint] = self._failures.get(endpoint, 0) + 1 if reason else 0
        self._reasons += tuple(dict.fromkeys(reason for reason in results.values() if reason))
        if self._headers is not None and any(not reason for reason in results.values()):
            self._admitted = True
        if self.admitted:
            self.backoff.succeed()
        else:
            self.backoff.fail()

    def fact(self) -> Fact:
        """What is known now."""
        state: State = "ready" if self.admitted else "unready" if self.backoff.failures else "warming"
        return Fact(
            state=state,
            reason="; ".join(self._reasons),
            given_up=self.backoff.given_up,
            down=self.admitted and not self._answering(),
            endpoints=self._flagged(),
            digest=self._need.digest,
            headers=self._headers or (),
        )

    def _answering(self) -> bool:
        return any(self._failures.get(endpoint, 0) < UNHEALTHY_AFTER for endpoint in self.endpoints)

    def _flagged(self) -> tuple[Endpoint, ...]:
        bad = {endpoint for endpoint, failures in self._failures.items() if failures >= UNHEALTHY_AFTER}
        endpoints = self.endpoints
        if not bad or len(bad) == len(endpoints):
            return endpoints
        return tuple(msgspec.structs.replace(end, healthy=False) if end in bad else end for end in endpoints)
