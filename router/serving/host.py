"""One forked process's event loop: takes connections in fair parts, and ends in good order.

Rules:
1. Processes of one version share their listening sockets. One that has more connections than another leaves the next
   to it, for a moment only: nobody waits for a process that does not come.
2. SIGTERM, and the wish to leave, end it once what is in flight is answered; SIGINT is the supervisor's to interpret.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress

from router.serving.board import NOBODY, Board
from router.serving.protocol import Connection
from router.serving.service import Service

_POLITE = 0.002


class Host:
    """Serves `service` on `sockets`, at place `place` of `board`."""

    def __init__(self, service: Service, sockets: Sequence[socket.socket], board: Board, place: int) -> None:
        self.connections: set[Connection] = set()
        self._service = service
        self._sockets = sockets
        self._board = board
        self._place = place
        self._over = asyncio.Event()
        self._settling: set[asyncio.Task[None]] = set()
        self._less = asyncio.Event()
        self._polite = self._ended = False

    async def run(self) -> None:
        """Until `leave` or SIGTERM, and until every connection has ended."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end)
        self._count()
        for sock in self._sockets:
            sock.setblocking(False)
            loop.add_reader(sock, self._accept, sock)
        await self._over.wait()
        for sock in self._sockets:
            loop.remove_reader(sock)
        self._board.connected(self._place, NOBODY)
        await asyncio.gather(*self._settling)
        for connection in tuple(self.connections):
            if self._ended:
                connection.shutdown()
            else:
                connection.retire()
        while self.connections:
            self._less.clear()
            await self._less.wait()

    def leave(self) -> None:
        """Takes no more connections, and ends with those it has: each is used for one request more at most."""
        self._over.set()

    def _end(self) -> None:
        self._ended = True
        for connection in tuple(self.connections):
            connection.shutdown()
        self._over.set()

    def _accept(self, sock: socket.socket) -> None:
        if len(self.connections) > self._board.fewest() and not self._polite:
            self._polite = True
            loop = asyncio.get_running_loop()
            for each in self._sockets:
                loop.remove_reader(each)
            loop.call_later(_POLITE, self._look_again)
            return
        self._polite = False
        with suppress(BlockingIOError, ConnectionError):
            client, _ = sock.accept()
            client.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._settle(client))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    def _look_again(self) -> None:
        """Whoever is still there by now is taken all the same."""
        if not self._over.is_set():
            for sock in self._sockets:
                asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    async def _settle(self, client: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self._service, self), client)

    def joined(self, connection: Connection) -> None:
        """A connection begins."""
        self.connections.add(connection)
        self._count()

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self._less.set()
        self._count()

    def _count(self) -> None:
        if not self._over.is_set():
            self._board.connected(self._place, len(self.connections))
