"""Numbers and moments as people read them.

Rules:
1. Three figures at most; the unit is always there; what is not known is a dash.
2. Spaces that must not break are non-breaking.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import log

NONE = "–"
THIN = "\u202f"
HARD = "\u00a0"


def count(n: float) -> str:
    """`12 345`."""
    return f"{n:,.0f}".replace(",", THIN)


def percent(share: float | None) -> str:
    """A share between 0 and 1 as `0.52 %`."""
    if share is None:
        return NONE
    return f"{_figures(100.0 * share)}{HARD}%"


def weight(value: float | None) -> str:
    """A weight in percent as `12.5 %`."""
    return NONE if value is None else f"{value:.2f}".rstrip("0").rstrip(".") + f"{HARD}%"


def rate(per_second: float) -> str:
    """Requests per second as `12.3/s`; slow ones per minute or hour."""
    for times, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_second * times >= 0.1 or unit == "h":
            return f"{_figures(per_second * times)}/{unit}" if per_second else "0/s"
    return NONE


def duration(seconds: float | None) -> str:
    """A latency as `34 ms` or `1.2 s`."""
    if seconds is None:
        return NONE
    if seconds < 1.0:
        return f"{_figures(1000.0 * seconds)}{HARD}ms"
    return f"{_figures(seconds)}{HARD}s"


def size(octets: float | None) -> str:
    """Bytes as `123 MiB`."""
    if octets is None:
        return NONE
    return f"{_figures(octets / 2**20)}{HARD}MiB" if octets < 2**30 else f"{_figures(octets / 2**30)}{HARD}GiB"


def left(seconds: float) -> str:
    """A countdown as `4:05` or `1:02:03`."""
    whole = int(seconds + 0.999)
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def span(seconds: float) -> str:
    """A hold as `10 min`, `1 h 30 min`, `2 d`."""
    parts = []
    rest = round(seconds)
    for unit, letters in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if rest >= unit:
            parts.append(f"{rest // unit}{HARD}{letters}")
            rest %= unit
    return " ".join(parts[:2]) or f"0{HARD}s"


def ago(moment: float, now: float) -> str:
    """How long `moment` is past: `3 min ago`."""
    seconds = max(0.0, now - moment)
    for unit, letters in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)}{HARD}{letters} ago"
    return "just now" if seconds < 10 else f"{int(seconds // 10) * 10}{HARD}s ago"


def moment(seconds: float) -> str:
    """Wall-clock seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(seconds: float) -> str:
    """Wall-clock seconds as people read them, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %Y, %H:%M:%S UTC")


def evidence(value: float) -> str:
    """An e-value: `1.3`, `140`, `2.1 million`, or a power of ten."""
    if value >= 1e9:
        return f"10^{int(log(value, 10))}"
    return count(value) if value >= 100 else f"{value:.2g}"


def _figures(value: float) -> str:
    """Three significant figures, never in powers of ten."""
    if value >= 100.0:
        return count(value)
    if value == 0.0:
        return "0"
    places = 1 if value >= 10.0 else 2
    text = f"{value:.{places}f}" if value >= 0.005 else f"{value:.2g}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
