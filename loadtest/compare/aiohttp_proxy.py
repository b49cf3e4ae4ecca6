"""A canary proxy as one writes it with aiohttp, server and client: `python -m loadtest.compare.aiohttp_proxy PORT URL`.

Rules:
1. It does what it has to (split, forwarding headers, streaming of the answer) and nothing else.
2. It runs as fast as aiohttp does: uvloop, no access log, no limit on connections.
"""

from __future__ import annotations

import random
import sys
import uuid

import uvloop
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web

DROPPED = frozenset({"connection", "keep-alive", "host", "content-length", "transfer-encoding", "te", "upgrade"})


def application(upstream: str) -> web.Application:
    """A proxy before `upstream`, an address without a path."""
    app = web.Application(client_max_size=10 * 1024 * 1024)

    async def session(app: web.Application) -> None:
        app["session"] = ClientSession(
            connector=TCPConnector(limit=0), auto_decompress=False, cookie_jar=DummyCookieJar()
        )

    async def forward(request: web.Request) -> web.StreamResponse:
        version = "v4" if random.random() < 0.1 else "v3"
        headers = {name: value for name, value in request.headers.items() if name.lower() not in DROPPED}
        headers["x-forwarded-for"] = request.remote or "unknown"
        headers["x-request-id"] = uuid.uuid4().hex
        body = await request.read()
        client: ClientSession = request.app["session"]
        async with client.request(request.method, upstream + request.path_qs, data=body, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in DROPPED}
            return web.Response(
                status=answer.status, body=await answer.read(), headers={**kept, "x-model-version": version}
            )

    app.on_startup.append(session)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


def main() -> None:
    """Serves until SIGTERM."""
    uvloop.install()
    web.run_app(application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
