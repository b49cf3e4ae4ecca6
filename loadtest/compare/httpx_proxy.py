"""A canary proxy as one writes it with Starlette and httpx: `python -m loadtest.compare.httpx_proxy PORT URL`.

Rules:
1. It does what it has to (split, forwarding headers, streaming of the answer) and nothing else.
2. It runs as fast as these do: uvicorn with uvloop and httptools, no access log, a pool that is large enough.
"""

from __future__ import annotations

import contextlib
import random
import sys
import uuid
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

DROPPED = frozenset({"connection", "keep-alive", "host", "content-length", "transfer-encoding", "te", "upgrade"})
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def application(upstream: str) -> Starlette:
    """A proxy before `upstream`, an address without a path."""
    client = httpx.AsyncClient(
        base_url=upstream, limits=httpx.Limits(max_connections=512, max_keepalive_connections=512), timeout=30.0
    )

    async def forward(request: Request) -> StreamingResponse:
        version = "v4" if random.random() < 0.1 else "v3"
        headers = {name: value for name, value in request.headers.items() if name not in DROPPED}
        headers["x-forwarded-for"] = request.client.host if request.client else "unknown"
        headers["x-request-id"] = uuid.uuid4().hex
        sent = client.build_request(
            request.method, httpx.URL(path=request.url.path), headers=headers, content=await request.body()
        )
        answer = await client.send(sent, stream=True)
        kept = {name: value for name, value in answer.headers.items() if name not in DROPPED - {"content-length"}}
        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            headers={**kept, "x-model-version": version},
            background=BackgroundTask(answer.aclose),
        )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(routes=[Route("/{path:path}", forward, methods=METHODS)], lifespan=lifespan)


def main() -> None:
    """Serves until SIGTERM."""
    app = application(sys.argv[2])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
