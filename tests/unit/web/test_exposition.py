"""Our text is what prometheus_client would have written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from router.core.outcome import histogram_of
from router.web.exposition import BOUNDS, OPENMETRICS, PLAIN, Histograms, content_type, encode

DOCUMENTATION = 'Says "what" it is,\nwith a \\ in it.'


class Given(Collector):
    """Families as they are."""

    def __init__(self, *families: Metric) -> None:
        self.families = families

    def collect(self) -> Iterator[Metric]:
        yield from self.families


def theirs(form: str, *families: Metric) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Given(*families))
    if form == PLAIN:
        return generate_latest(registry)
    text: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
    return text


@pytest.mark.parametrize("form", [PLAIN, OPENMETRICS])
@given(
    durations=st.lists(st.floats(0, 1e9)),
    label=st.text(st.characters(exclude_categories=["Cs"])),
    value=st.floats(),
)
def test_the_text_is_theirs(form: str, durations: list[float], label: str, value: float) -> None:
    histogram = histogram_of(durations)
    labels = {"model": label, "region": "r", "version": "v"}
    counter = CounterMetricFamily("c", DOCUMENTATION, labels=("version", "code"))
    counter.add_metric((label, "200"), value)
    counter.add_metric(("", "503"), 3)
    gauge = GaugeMetricFamily("g", DOCUMENTATION, value=value)
    ours = Histograms("h", DOCUMENTATION, [(labels, histogram), (labels, histogram)])
    their = HistogramMetricFamily("h", DOCUMENTATION, labels=tuple(labels))
    buckets = [(bound, sum(histogram.counts[: index + 1])) for index, bound in enumerate(BOUNDS)]
    for _ in range(2):
        their.add_metric(tuple(labels.values()), buckets, histogram.total)

    assert encode([counter, ours, gauge], form) == theirs(form, counter, their, gauge)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", PLAIN),
        ("text/plain", PLAIN),
        ("text/html, */*;q=0.1", PLAIN),
        ("application/openmetrics-text", OPENMETRICS),
        ("text/plain;q=0.5, application/openmetrics-text; version=1.0.0;q=0.8", OPENMETRICS),
    ],
)
def test_openmetrics_is_for_those_who_name_it(accept: str, form: str) -> None:
    assert content_type(accept) == form
