"""`python -m router.dataplane`: one worker, started by the supervisor."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
from pathlib import Path

import msgspec
import uvloop

from router import lifeline
from router.dataplane.worker import Worker, WorkerConfig


class _Settings(msgspec.Struct):
    trusted_proxies: tuple[str, ...] = ()
    grace: float = 30.0


class _SettingsFile(msgspec.Struct):
    settings: _Settings
    bound: dict[str, object] = {}


def main() -> None:
    """Reads what the supervisor passed on, and serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="router.dataplane")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--listen", action="append", required=True, metavar="REGION=FD")
    args = parser.parse_args()
    lifeline.hold(args.lifeline)
    # Ctrl-C reaches the whole foreground group; only the supervisor decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s worker: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    file = msgspec.json.decode((args.run / "settings.json").read_bytes(), type=_SettingsFile)
    listen = dict(pair.rpartition("=")[::2] for pair in args.listen)
    config = WorkerConfig(
        run=args.run,
        index=args.index,
        listen={region: socket.socket(fileno=int(fd)) for region, fd in listen.items()},
        trusted_proxies=file.settings.trusted_proxies,
        grace=file.settings.grace,
        identity=f"{socket.gethostname()} {file.bound}",
    )

    async def run() -> None:
        loop = asyncio.get_running_loop()
        worker = Worker(config, loop)
        loop.add_signal_handler(signal.SIGUSR1, worker.leave)
        # Who starts while the router is ending has missed the signal; the supervisor leaves this mark before it.
        if (config.run / "draining").exists():
            worker.leave()
        await worker.run()

    uvloop.run(run())


main()
