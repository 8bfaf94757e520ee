"""A proxy that does to S3 what networks and busy servers do, between pyarrow and a server on loopback."""

from __future__ import annotations

import enum
import http.client
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_HOP = {"connection", "transfer-encoding", "keep-alive"}


class Fault(enum.Enum):
    """What happens to a request."""

    NONE = enum.auto()
    THROTTLE = enum.auto()  # 503 SlowDown
    ERROR = enum.auto()  # 500
    DENY = enum.auto()  # 403
    CUT_UPLOAD = enum.auto()  # half of the request's body arrives at the server
    CUT_DOWNLOAD = enum.auto()  # half of the answer's body arrives at the client
    LOSE_ANSWER = enum.auto()  # the server does it, and the client never learns
    SILENCE = enum.auto()  # nothing at all, until the client goes away


_ANSWERS = {Fault.THROTTLE: (503, _SLOW_DOWN), Fault.ERROR: (500, b""), Fault.DENY: (403, b"")}


@dataclass(frozen=True)
class Request:
    """A request as it arrives."""

    method: str
    path: str


class FaultyS3:
    """Forwards requests, and lets `fault` decide about each. `endpoint` stays while it refuses connections."""

    def __init__(self, upstream: str) -> None:
        self.upstream, self.requests = upstream, 0
        self.fault: Callable[[Request], Fault] = lambda _: Fault.NONE
        self.bytes_per_s = 0  # of uploads; 0: as fast as it goes
        self._port = 0
        self._connections: set[socket.socket] = set()
        self.come_back()

    @property
    def endpoint(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._port}"

    def come_back(self) -> None:
        """Accepts connections, again."""
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def go_away(self) -> None:
        """Cuts every connection and refuses new ones."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def failing(self, faults: Iterable[Fault], when: Callable[[Request], bool] = lambda _: True) -> Iterator[None]:
        """Does the faults, one each, to the next requests of a kind."""
        left = iter(faults)
        self.fault = lambda request: next(left, Fault.NONE) if when(request) else Fault.NONE
        yield
        self.fault = lambda _: Fault.NONE

    @contextmanager
    def down(self) -> Iterator[None]:
        """Refuses connections for a while."""
        self.go_away()
        yield
        self.come_back()


def _handler(proxy: FaultyS3) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            proxy._connections.add(self.connection)

        def finish(self) -> None:
            proxy._connections.discard(self.connection)
            with suppress(OSError):
                super().finish()

        def handle(self) -> None:
            with suppress(OSError, http.client.HTTPException):  # one of the two sides went away
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            proxy.requests += 1
            fault = proxy.fault(Request(self.command, self.path))
            body = self._receive()
            if fault in _ANSWERS:
                self._answer(*_ANSWERS[fault], {})
            elif fault is Fault.CUT_UPLOAD:
                self._forward(body, cut=True)
            elif fault is Fault.SILENCE:
                self.connection.recv(1)
            else:
                self._pass(body, fault)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - names that http.server looks for

        def _receive(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self._receive_bytes(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self._receive_bytes(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _receive_bytes(self, size: int) -> bytes:
            parts, step = [], max(proxy.bytes_per_s // 20, 1) if proxy.bytes_per_s else size or 1
            while size > 0:
                part = self.rfile.read(min(step, size))
                if not part:
                    raise OSError("the client went away")
                parts.append(part)
                size -= len(part)
                if proxy.bytes_per_s:
                    time.sleep(0.05)
            return b"".join(parts)

        def _pass(self, body: bytes, fault: Fault) -> None:
            status, headers, data = self._forward(body)
            if fault is Fault.LOSE_ANSWER:
                self.close_connection = True
                return
            self._answer(status, data, headers, cut=fault is Fault.CUT_DOWNLOAD)

        def _forward(self, body: bytes, *, cut: bool = False) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(proxy.upstream, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP | {"expect", "content-length"}:
                    connection.putheader(name, value)
            if self.command in ("PUT", "POST"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[: len(body) // 2] if cut else body)
            if cut:
                connection.close()
                self.close_connection = True
                raise OSError("cut")
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            return answer.status, dict(answer.getheaders()), data

        def _answer(self, status: int, data: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in _HOP | {"content-length"}:
                    self.send_header(name, value)
            lengths = [value for name, value in headers.items() if name.lower() == "content-length"]
            self.send_header("Content-Length", lengths[0] if lengths else str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if cut else data)
            self.close_connection = self.close_connection or cut

    return Handler
