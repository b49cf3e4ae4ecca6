"""`canary-router demo` as somebody would run it who has just cloned the repository."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from router.cli.processes import family_of

SECONDS = 240.0


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
def test_it_shows_the_split_moves_it_and_leaves_nothing_running(tmp_path: Path) -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "router.cli", "demo", "--directory", str(tmp_path / "demo")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    shares = re.findall(r"(\S+) +(v[12]) +(\d+) +([\d.]+) % +(\d+) %", demo.stdout)
    assert [(region, version, declared) for region, version, _, _, declared in shares] == [
        ("eu-west", "v1", "90"),
        ("eu-west", "v2", "10"),
        ("us-east", "v1", "100"),
        ("us-east", "v2", "0"),
    ]
    assert sum(int(requests) for _, _, requests, _, _ in shares) >= 2_000
    assert re.search(r"in force after \d+ ms; v2 now gets [45]\d\.\d %; \d+ requests, none failed", demo.stdout)
    assert not [pid for pid in family_of(1) if str(tmp_path).encode() in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
