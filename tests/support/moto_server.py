"""A second S3 server: moto's. It runs in this process and keeps its objects in memory."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer
from seaweed import HOST, S3Server


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """A running server with an empty bucket. It accepts any credentials.

    All of moto's servers in one process share their buckets, even one after the other, so the
    bucket has a new name.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would log a line for each request
    running = ThreadedMotoServer(HOST, 0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        server = S3Server(f"http://{host}:{port}", "access", "secret-of-moto")
        yield server.with_new_bucket()
    finally:
        running.stop()
