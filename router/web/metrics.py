"""`/metrics`, from what the workers reported.

Rules:
1. Readings are copied on the event loop, in one moment; the text is made from the copy, in a thread.
2. Names and labels as documented; base units; never a user's identifier in a label.
3. Counters count since control started: a restart is a reset, which Prometheus expects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from router.control.canary import Canary
from router.control.service import Control
from router.control.totals import Series, Tally
from router.core.snapshot import Target
from router.store.audit import Head
from router.web.exposition import Histograms, content_type, encode

LABELS = ("model", "version", "region")
STATES = ("ready", "warming", "unready", "gated", "rolled_back")


@dataclass(frozen=True, slots=True)
class Readings:
    """Everything that `/metrics` shows, at one moment."""

    tallies: dict[Series, Tally]
    in_flight: dict[Series, tuple[int, int]]
    targets: dict[Series, list[Target]]
    revision: str
    failures: int
    last_success: float
    canaries: list[CanaryReading]
    rollbacks: dict[tuple[str, str, str, str], int]
    store_failures: int
    unwritten: int
    head: Head | None


@dataclass(frozen=True, slots=True)
class CanaryReading:
    """One canary: e-values by guard, and the step (from 1) in each region that its rollout is in."""

    model: str
    version: str
    evidence: dict[str, float]
    steps: dict[str, int]


def read(control: Control) -> Readings:
    """Copies the readings (rule 1)."""
    targets: dict[Series, list[Target]] = {}
    for model in control.controller.models.values():
        for region, route in (model.route.regions if model.route else {}).items():
            for target in route.targets:
                targets.setdefault((model.name, target.version, region), []).append(target)
    return Readings(
        tallies={series: tally.copy() for series, tally in control.totals.tallies.items()},
        in_flight=control.totals.in_flight(),
        targets=targets,
        revision=control.reloads.revision,
        failures=control.reloads.failures,
        last_success=control.reloads.last_success,
        canaries=[_canary(canary) for canary in control.helm.steering.all()],
        rollbacks=dict(control.helm.enactor.rollbacks),
        store_failures=control.helm.recorder.failures,
        unwritten=control.helm.recorder.outstanding,
        head=control.helm.recorder.head,
    )


def _canary(canary: Canary) -> CanaryReading:
    readings = canary.evidence.readings() if canary.evidence is not None else ()
    step = canary.state.step_index + 1 if canary.state is not None else 0
    return CanaryReading(
        canary.model,
        canary.version,
        {reading.guard: reading.e for reading in readings},
        dict.fromkeys(canary.stage, step),
    )


def render(readings: Readings, accept: str) -> tuple[bytes, str]:
    """The text in the format that `accept` asks for, and its content type."""
    form = content_type(accept)
    return encode(families(readings), form), form


def families(readings: Readings) -> list[Metric | Histograms]:
    """Everything that is shown, before it is text."""
    return list(_Readout(readings).collect())


class _Readout:
    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric | Histograms]:
        yield from self._counters()
        yield from self._histograms()
        yield from self._gauges()
        yield from self._weights_and_states()
        yield from self._steering()
        yield from self._store()
        yield from self._config()

    def _counters(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "canary_router_requests",
            "Client requests, by the version picked, the status the client saw and what became of them.",
            labels=(*LABELS, "code", "outcome"),
        )
        fallbacks = CounterMetricFamily(
            "canary_router_fallbacks", "Requests that stable answered for a canary.", labels=(*LABELS, "reason")
        )
        retries = CounterMetricFamily("canary_router_retries", "Attempts after the first.", labels=LABELS)
        for series, tally in self._readings.tallies.items():
            for (code, result), n in tally.codes.items():
                requests.add_metric((*series, str(code), result), n)
            for reason, n in tally.fallbacks.items():
                fallbacks.add_metric((*series, reason), n)
            retries.add_metric(series, tally.retries)
        yield from (requests, fallbacks, retries)

    def _histograms(self) -> Iterator[Histograms]:
        request = Histograms("canary_router_request_duration_seconds", "What the client waited for its answer.")
        upstream = Histograms("canary_router_upstream_duration_seconds", "What the model servers took of it.")
        overhead = Histograms("canary_router_overhead_seconds", "What the router took of it.")
        for (model, version, region), tally in self._readings.tallies.items():
            labels = {"model": model, "region": region, "version": version}
            request.entries.append((labels, tally.duration))
            upstream.entries.append((labels, tally.upstream))
            overhead.entries.append((labels, tally.overhead))
        yield from (request, upstream, overhead)

    def _gauges(self) -> Iterator[Metric]:
        under_way = GaugeMetricFamily("canary_router_in_flight_requests", "Requests under way.", labels=LABELS)
        ejected = GaugeMetricFamily(
            "canary_router_ejected_endpoints", "Endpoints left out after failures in a row.", labels=LABELS
        )
        for series in {**dict.fromkeys(self._readings.targets), **self._readings.in_flight}:
            requests, endpoints = self._readings.in_flight.get(series, (0, 0))
            under_way.add_metric(series, requests)
            ejected.add_metric(series, endpoints)
        yield from (under_way, ejected)

    def _weights_and_states(self) -> Iterator[Metric]:
        weight = GaugeMetricFamily(
            "canary_router_weight_ratio", "Share of a region's traffic, from 0 to 1.", labels=(*LABELS, "kind")
        )
        state = GaugeMetricFamily(
            "canary_router_version_state",
            "1 for the state a version is in, 0 for the others.",
            labels=(*LABELS, "state"),
        )
        for series, targets in self._readings.targets.items():
            weight.add_metric((*series, "declared"), sum(target.declared for target in targets) / 10_000)
            weight.add_metric((*series, "effective"), sum(target.weight for target in targets) / 10_000)
            for name in STATES:
                state.add_metric((*series, name), float(targets[0].state == name))
        yield from (weight, state)

    def _steering(self) -> Iterator[Metric]:
        rollbacks = CounterMetricFamily(
            "canary_router_rollbacks", "Rollbacks, by the guard that fired or `operator`.", labels=(*LABELS, "reason")
        )
        for series, n in self._readings.rollbacks.items():
            rollbacks.add_metric(series, n)
        evidence = GaugeMetricFamily(
            "canary_router_evidence", "E-value of a guard over all regions.", labels=("model", "version", "guard")
        )
        step = GaugeMetricFamily(
            "canary_router_rollout_step", "The step a rollout is in, from 1, where it is.", labels=LABELS
        )
        for canary in self._readings.canaries:
            for guard, e in canary.evidence.items():
                evidence.add_metric((canary.model, canary.version, guard), e)
            for region, number in canary.steps.items():
                step.add_metric((canary.model, canary.version, region), number)
        yield from (rollbacks, evidence, step)

    def _store(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "canary_router_store_failures",
            "Writes that the store refused; each is tried again, or was answered with 507.",
            value=self._readings.store_failures,
        )
        yield GaugeMetricFamily(
            "canary_router_store_unwritten_rollbacks",
            "Rollbacks that are in force and that the store has not taken yet.",
            value=self._readings.unwritten,
        )
        head = self._readings.head
        if head is not None:
            shown = GaugeMetricFamily(
                "canary_router_audit_head", "Sequence of the newest audit entry, and its hash.", labels=("hash",)
            )
            shown.add_metric((head.hash,), head.sequence)
            yield shown

    def _config(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("canary_router_config_info", "The configs in force.", labels=("revision",))
        info.add_metric((self._readings.revision,), 1)
        yield info
        yield CounterMetricFamily(
            "canary_router_config_reload_failures", "Configs that were found broken.", value=self._readings.failures
        )
        yield GaugeMetricFamily(
            "canary_router_config_last_success_timestamp_seconds",
            "When all configs were last found right after a change.",
            value=self._readings.last_success,
        )
