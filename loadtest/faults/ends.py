"""The router's own ends: SIGTERM, and a worker killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

from loadtest.faults.plan import Record
from loadtest.faults.stage import model, pause_until, stage, wait_for
from loadtest.faults.verdict import Verdict

PATHS = ("/models/safe/invocations", "/models/safe/slow")
GRACE = 9.0
BATCH = 0.1
AT_ONCE = 0.02
"""A request sent so shortly before SIGTERM may meet the closing of its idle connection on the way."""


class Stream(threading.Thread):
    """A client of an endless stream. `last` is when something came last."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.last = 0.0

    def run(self) -> None:
        """Reads until the stream breaks."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as client:
            client.sendall(b"POST /models/safe/stream HTTP/1.1\r\nhost: bench\r\ncontent-length: 0\r\n\r\n")
            try:
                while client.recv(4096):
                    self.last = time.monotonic()
            except OSError:
                return


def drain(rate: float) -> Verdict:
    """8: SIGTERM under load, with requests of 5 s and one endless stream under way."""
    verdict = Verdict()
    long = model("safe", timeout="20s", attempt_timeout="20s")
    with stage(long, arguments=("--grace", f"{GRACE:g}s")) as on:
        for server in on.all_servers:
            server.set(delay=0.02)
        stream = Stream(on.port)
        stream.start()
        load = on.load(min(rate, 400), 60, paths=PATHS, patience=15)
        time.sleep(4)
        asked = time.monotonic()
        on.router.send_signal(signal.SIGTERM)
        refused = wait_for(lambda: not _accepts(on.port), 20, "new connections are refused")
        pause_until(asked + 1.5)
        load.stop()
        code = on.router.wait(60)
        ended = time.monotonic() - asked
        records = load.records()
        stream.join(5)
    under_way = [record for record in records if record.sent and record.sent < asked - AT_ONCE and record.done > asked]
    verdict.at_least("in flight at SIGTERM", len(under_way), 100)
    verdict.at_most("of them not completed", sum(record.failed for record in under_way), 0)
    verdict.at_most("new connections refused after", refused, 1, " s")
    verdict.at_least("stream flowed on for", stream.last - asked, 5, " s")
    verdict.at_most("exit code", code, 0)
    verdict.at_most("ended after", ended, GRACE + 1, " s")
    return verdict


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def worker_killed(rate: float) -> Verdict:
    """9: one of two workers is killed with -9 under load."""
    verdict = Verdict()
    with stage(model("safe"), workers=2) as on:
        for server in on.all_servers:
            server.set(delay=0.02)
        load = on.load(rate, 60, paths=PATHS[:1], fresh=0.02)
        time.sleep(4)
        victim = on.workers()[0]
        theirs = _client_ports(victim, on.port)
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        back = wait_for(lambda: len(set(on.workers()) - {victim}) == 2, 20, "the worker was replaced")
        pause_until(killed + 4)
        load.stop()
        records = load.records()
        wait_for(lambda: on.metric("canary_router_in_flight_requests") == 0, 20, "all batches have come")
        time.sleep(0.3)
        counted = on.metric("canary_router_requests", model="safe")
    _judge(verdict, records, theirs, killed, counted)
    verdict.remarks |= {"replaced_after_s": back, "connections_of_the_victim": len(theirs)}
    return verdict


def _judge(verdict: Verdict, records: list[Record], theirs: set[int], killed: float, counted: float) -> None:
    failed = [record for record in records if record.failed]
    # What connected in the instant between the look at the sockets and the kill cannot be told apart by its port.
    others = [r for r in failed if r.local not in theirs and not killed - 0.1 < r.sent < killed + 0.05]
    answered = sum(not record.failed for record in records)
    last = [r for r in records if r.local in theirs and not r.failed and killed - BATCH <= r.done <= killed + 0.01]
    lost = answered - counted
    verdict.at_most("failures on other connections", len(others), 0)
    verdict.at_most("failures", len(failed), len(theirs))
    verdict.at_most("outcomes lost", lost, len(last) * 1.1 + 1)
    verdict.remarks |= {"answered": answered, "counted": counted, "answered_in_the_last_100_ms_there": len(last)}


def _client_ports(pid: int, port: int) -> set[int]:
    """The clients' ports of the connections that process `pid` has accepted on `port`."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        found = re.match(r"socket:\[(\d+)\]", str(entry.readlink()))
        if found:
            inodes.add(found.group(1))
    ports = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and int(fields[1].split(":")[1], 16) == port:
            ports.add(int(fields[2].split(":")[1], 16))
    return ports
