"""`canary-router serve` with dummy children: `python -m tests.support.dummy_router serve …`.

DUMMY_CONTROL and DUMMY_WORKER hold further arguments for the children.
"""

from __future__ import annotations

import os
import sys
from unittest.mock import patch

from router.cli.main import run as run_command_line
from router.config.settings import Settings
from router.supervisor import run
from router.supervisor.run import Programs


def dummy(role: str, variable: str) -> tuple[str, ...]:
    """How a dummy child is started."""
    further = os.environ.get(variable, "").split()
    return (sys.executable, "-m", "tests.support.dummy_child", "--role", role, *further)


class DummyRun:
    """Takes the place of the module `router.supervisor.run` in `router.cli.serve`."""

    @staticmethod
    def serve(settings: Settings) -> int:
        """See `router.supervisor.run.serve`."""
        programs = Programs(control=dummy("control", "DUMMY_CONTROL"), worker=dummy("worker-", "DUMMY_WORKER"))
        return run.serve(settings, programs)


if __name__ == "__main__":
    with patch("router.cli.serve.run", DummyRun):
        sys.exit(run_command_line())
