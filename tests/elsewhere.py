"""What is elsewhere: a payment provider, which functions reach over HTTP on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import uvicorn

from samples.provider import Books, app


@contextmanager
def provider(books: Books) -> Iterator[str]:
    """Serve a provider with these books in a thread; yields its address, as functions know it."""
    config = uvicorn.Config(app(books), port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True, name="provider")
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        with mock.patch.dict("os.environ", {"PAYMENT_PROVIDER": url, "PAYMENT_SECRET": ""}):
            yield url
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
