"""Metric families as text, fast enough for a thousand models.

Rules:
1. The text is that of prometheus_client's own encoders, byte for byte, for what we have: no exemplars, no timestamps,
   names that need no escaping. Those take microseconds for each of a hundred thousand lines.
2. Histograms are most of the lines: they are never made into samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from router.core.outcome import BUCKETS, Histogram

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (*map(str, BUCKETS), "+Inf")


@dataclass(slots=True)
class Histograms:
    """A family of histograms: each with its labels, whose names are in alphabetical order and all behind `le`."""

    name: str
    documentation: str
    entries: list[tuple[Mapping[str, str], Histogram]] = field(default_factory=list)


def content_type(accept: str) -> str:
    """The format for somebody who accepts `accept`: OpenMetrics where it is named, else the plain one."""
    wanted = (media_type.partition(";")[0].strip() for media_type in accept.split(","))
    return OPENMETRICS if "application/openmetrics-text" in wanted else PLAIN


def encode(families: Iterable[Metric | Histograms], form: str) -> bytes:
    """All `families` in the format of content type `form`."""
    open_metrics = form == OPENMETRICS
    lines: list[str] = []
    for family in families:
        if isinstance(family, Histograms):
            lines += _head(family.name, family.documentation, "histogram", open_metrics=open_metrics)
            lines += _histograms(family)
        else:
            name = family.name if open_metrics or family.type != "counter" else family.name + "_total"
            lines += _head(name, family.documentation, family.type, open_metrics=open_metrics)
            lines += (f"{sample.name}{_braced(sample.labels)} {_number(sample.value)}\n" for sample in family.samples)
    if open_metrics:
        lines.append("# EOF\n")
    return "".join(lines).encode()


def _head(name: str, documentation: str, kind: str, *, open_metrics: bool) -> tuple[str, str]:
    escaped = documentation.replace("\\", r"\\").replace("\n", r"\n")
    if open_metrics:
        escaped = escaped.replace('"', r"\"")
    return f"# HELP {name} {escaped}\n", f"# TYPE {name} {kind}\n"


def _histograms(family: Histograms) -> Iterator[str]:
    starts = [f'{family.name}_bucket{{le="{bound}",' for bound in BOUNDS]
    for labels, histogram in family.entries:
        inner = _inner(labels)
        end = inner + "} "
        so_far = 0
        for start, count in zip(starts, histogram.counts, strict=True):
            so_far += count
            yield start + end + _number(so_far) + "\n"
        yield f"{family.name}_count{{{inner}}} {_number(so_far)}\n"
        yield f"{family.name}_sum{{{inner}}} {_shown(histogram.total)}\n"


def _braced(labels: Mapping[str, str]) -> str:
    return f"{{{_inner(dict(sorted(labels.items())))}}}" if labels else ""


def _inner(labels: Mapping[str, str]) -> str:
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in labels.items()])


@lru_cache(maxsize=16_384)
def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _shown(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
    return text


_remembered = lru_cache(maxsize=16_384)(_shown)


def _number(value: float) -> str:
    """For counts, of which the same come again and again. Zero is not remembered: -0.0 would pass for it."""
    return _remembered(value) if value else _shown(value)
