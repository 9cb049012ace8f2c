"""A proxy in front of an S3 server. When told to, it fails in the ways of networks and servers.

It passes the Host header on unchanged, so that signatures stay valid.
"""

import http.client
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Kind = Literal[
    "slow down",  # the answer is 503
    "internal error",  # the answer is 500
    "conflict",  # the answer is 409, which some servers give to the loser of a race
    "close",  # the connection is closed before the request is passed on
    "lose answer",  # the request is passed on and carried out, but never answered
    "hang",  # the request is neither passed on nor answered
    "truncate",  # the answer's body ends half-way
    "damage",  # the first byte of the answer's body is changed
    "forget condition",  # the request is passed on without If-None-Match
    "skewed clock",  # the answer is 403
    "expired token",  # the answer is 400
    "access denied",  # the answer is 403
    "clock ahead",  # the Date of the answer is an hour ahead
    "pass",  # nothing happens
]
ANSWERS: dict[str, tuple[int, str]] = {
    "slow down": (503, "SlowDown"),
    "internal error": (500, "InternalError"),
    "conflict": (409, "ConditionalRequestConflict"),
    "skewed clock": (403, "RequestTimeTooSkewed"),
    "expired token": (400, "ExpiredToken"),
    "access denied": (403, "AccessDenied"),
}
HANG_SECONDS = 60
AHEAD_SECONDS = 3600


@dataclass
class Fault:
    """A fault that hits the next `times` requests of a method whose path matches a pattern."""

    kind: Kind
    method: str
    path: str
    times: int
    first: Callable[[], object]
    """This function is called before the fault happens."""


class FaultyProxy:
    """A proxy whose faults are planned by `inject`. While `down` is true it refuses every request.
    Both may be used from any thread."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None and parts.port is not None
        self.upstream = parts.hostname, parts.port
        self.down = False
        self.delay_s = 0.0
        """The time that is added to every request."""
        self.injected: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        """The number of requests that got the server's own answer, by method."""
        self.released = threading.Event()
        self._plan: list[Fault] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.endpoint = "http://{}:{}".format(*self._server.server_address[:2])

    def inject(
        self, kind: Kind, method: str, path: str = "", times: int = 1,
        first: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        with self._lock:
            self._plan.append(Fault(kind, method, path, times, first))

    def planned(self, method: str, path: str) -> Fault | None:
        """The fault for this request, or None. Each call uses the fault up once."""
        with self._lock:
            for fault in self._plan:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    self.injected[fault.kind] += 1
                    return fault
        return None

    def count(self, counter: Counter[str], name: str) -> None:
        with self._lock:
            counter[name] += 1

    @property
    def requests(self) -> int:
        """The number of requests that came in, with or without a fault."""
        with self._lock:
            return self.injected.total() + self.passed.total()

    def run(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """A running proxy in front of the server at `upstream`."""
    proxy = FaultyProxy(upstream)
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that went away, which is expected here. Any other error is ours."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            time.sleep(proxy.delay_s)
            if proxy.down:
                proxy.count(proxy.injected, "down")
                self.hang_up()
                return
            fault = proxy.planned(self.command, self.path)
            if fault is not None:
                fault.first()
            if fault is None or fault.kind == "pass":
                answer = self.forward(body)
                proxy.count(proxy.passed, self.command)
                self.answer(*answer)
                return
            if fault.kind in ANSWERS:
                self.refuse(*ANSWERS[fault.kind])
                return
            if fault.kind == "hang":
                proxy.released.wait(HANG_SECONDS)
            if fault.kind == "lose answer":
                self.forward(body)
            if fault.kind == "forget condition":
                del self.headers["If-None-Match"]
                self.answer(*self.forward(body))
                return
            if fault.kind == "clock ahead":
                status, headers, whole = self.forward(body)
                kept = [(name, value) for name, value in headers if name.lower() != "date"]
                later = formatdate(time.time() + AHEAD_SECONDS, usegmt=True)
                self.answer(status, [*kept, ("Date", later)], whole)
                return
            if fault.kind == "damage":
                status, headers, whole = self.forward(body)
                self.answer(status, headers, bytes([whole[0] ^ 1]) + whole[1:])
                return
            if fault.kind == "truncate":
                status, headers, whole = self.forward(body)
                self.answer(status, headers, whole, len(whole) // 2)
            self.hang_up()

        do_GET = do_PUT = do_POST = do_DELETE = handle_any

        def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            server = http.client.HTTPConnection(*proxy.upstream, timeout=HANG_SECONDS)
            try:
                server.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in ("expect", "connection"):
                        server.putheader(name, value)
                server.endheaders(body)
                answer = server.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            except (http.client.HTTPException, OSError) as error:
                raise ConnectionAbortedError("the server behind the proxy is away") from error
            finally:
                server.close()

        def answer(
            self, status: int, headers: list[tuple[str, str]], body: bytes, cut: int | None = None
        ) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut])

        def refuse(self, status: int, code: str) -> None:
            error = f"<Error><Code>{code}</Code><Message>by the proxy</Message></Error>"
            self.answer(status, [("Content-Type", "application/xml")], error.encode())

        def hang_up(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: Any) -> None:
            """Prints nothing."""

    return Handler
