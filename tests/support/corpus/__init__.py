"""One corpus of requests, good, odd and hostile: what the data plane makes of each, and why others may differ.

Rules:
1. Each case says the final status codes, what the server must get, and whether the probe behind it is answered.
2. `nginx` and `haproxy` are the reasons why that one may judge otherwise; where none is given, they must agree.
3. A reason allows a difference and does not demand it: other versions of a peer may have come round.
"""

from __future__ import annotations

from tests.support.corpus import framing, heads, targets
from tests.support.corpus.case import Case

CORPUS: dict[str, Case] = {**framing.CASES, **heads.CASES, **targets.CASES}
