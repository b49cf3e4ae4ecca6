"""Whether a server can still answer one more request in time.

Rules:
1. Below `BUSY` requests under way nobody asks here: a slow server with few requests is never refused one.
2. A request is refused only when three things were measured while the server was busy: it answers so slowly that the
   one asking would wait longer than half of its time, and longer than twice what an unhurried answer takes, and its
   latest answers did take more than twice as long as unhurried ones. A slow server that keeps its pace is not full.
3. What is not known yet refuses nobody: it takes two spans of time with enough answers, or as much time as they could
   need; the better of the latest two counts, so that a moment's standstill is not taken for the server's pace, and
   two answers more than came, since few say little.
4. Unhurried is what answers take in a second with few requests under way; until there was one, the first ones seen.
5. What was measured is void once the server was not busy for a while.
"""

from __future__ import annotations

BUSY = 16
SPAN_SECONDS = 0.1
SPANS_IN_PATIENCE = 4
ENOUGH_ANSWERS = 3
DOUBT = 2
VOID_SECONDS = 0.25
PATIENCE = 0.5
HURRIED = 2.0
ADAPTS = 0.2


class Congestion:
    """One endpoint's pace. Times are monotonic seconds, handed in; `answers` and `took` are running totals."""

    __slots__ = ("_answers", "_asked", "_noted", "_since", "_spans", "_took", "crowded", "unhurried")

    def __init__(self) -> None:
        self.unhurried = 0.0
        self.crowded = False
        """Whether the last answer hung on how many requests are under way; if not, it holds for the next ones, too."""
        self._asked = float("-inf")
        self._since = 0.0
        self._answers = 0
        self._took = 0.0
        self._spans: list[tuple[float, float]] = []
        self._noted = (0.0, 0, 0.0)

    def note(self, now: float, answers: int, took: float) -> None:
        """Learns what unhurried answers take; called about once a second (rule 4).

        Args:
            now: the time.
            answers: how many answers there were so far.
            took: how long all of them took together, in seconds.
        """
        since, answers_before, took_before = self._noted
        self._noted = (now, answers, took)
        done, spent = answers - answers_before, took - took_before
        if done and spent < BUSY / 2 * (now - since) and now - self._asked > VOID_SECONDS:
            latency = spent / done
            self.unhurried += (latency - self.unhurried) * (ADAPTS if self.unhurried else 1.0)

    def has_room(self, now: float, in_flight: int, answers: int, took: float, left: float) -> bool:
        """Whether one more request should be sent to a busy server.

        Args:
            now: the time.
            in_flight: how many requests it has under way.
            answers: how many answers there were so far.
            took: how long all of them took together, in seconds.
            left: how long the request can wait for its answer, in seconds.
        """
        if now - self._asked > VOID_SECONDS:
            self._spans = []
            self._begin(now, answers, took)
        self._asked = now
        patience = max(PATIENCE * left, HURRIED * self.unhurried)
        elapsed, done = now - self._since, answers - self._answers
        if elapsed >= max(SPAN_SECONDS, patience / SPANS_IN_PATIENCE) and (
            done >= ENOUGH_ANSWERS or elapsed >= patience
        ):
            latency = (took - self._took) / done if done else float("inf")
            self._spans = [*self._spans[-1:], ((done + DOUBT) / elapsed, latency)]
            if done and not self.unhurried:
                self.unhurried = latency
            self._begin(now, answers, took)
        self.crowded = False
        if len(self._spans) < 2:
            return True
        (one_rate, one_latency), (rate, latency) = self._spans
        if min(one_latency, latency) <= HURRIED * self.unhurried:
            return True
        self.crowded = True
        return in_flight < max(one_rate, rate) * patience

    def _begin(self, now: float, answers: int, took: float) -> None:
        self._since, self._answers, self._took = now, answers, took
