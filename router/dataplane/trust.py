"""Whom to trust among model servers that speak TLS.

Rules:
1. Certificates are checked against the system's authorities, or those in SSL_CERT_FILE and SSL_CERT_DIR.
2. Reading them takes tens of milliseconds: it happens in a thread, once, and as soon as some model needs them. No
   request waits for it but those that come for such a model meanwhile.
"""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import Future, ThreadPoolExecutor


class Trust:
    """The certificates of a worker, read when they are first asked for."""

    def __init__(self) -> None:
        self._loading: Future[ssl.SSLContext] | None = None

    def begin(self) -> Future[ssl.SSLContext]:
        """Begins to read them, if nobody has yet."""
        if self._loading is None:
            thread = ThreadPoolExecutor(1, "certificates")
            self._loading = thread.submit(ssl.create_default_context)
            thread.shutdown(wait=False)
        return self._loading

    async def context(self) -> ssl.SSLContext:
        """What connections are opened with."""
        loading = self.begin()
        if loading.done():
            return loading.result()
        # Shielded: an attempt that is cancelled must not take the certificates from all others.
        return await asyncio.shield(asyncio.wrap_future(loading))
