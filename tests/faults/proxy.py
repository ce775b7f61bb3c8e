"""An HTTP proxy on loopback that does to calls what networks and servers do: 500, reset, lost reply, slow, cut short."""

import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("500", "reset", "lost reply", "slow", "cut short")


class FaultProxy:
    """Carries calls to ``target``, and harms a share of them.

    500: answered by the proxy, the server never hears of it. reset: the connection breaks before the server hears of it.
    lost reply: the server does its work, and the connection breaks instead of answering. slow: half a second late. cut short:
    the connection breaks in the middle of the answer's body. ``only``: a pattern of the calls to harm, such as "PUT .*/blobs/".
    """

    def __init__(self, target: str, *, share: float, seed: int = 1, faults: tuple[str, ...] = FAULTS, only: str = "") -> None:
        self.share, self.faults, self.only = share, faults, re.compile(only)
        self.calls, self.harmed = 0, Counter[str]()
        self._chance, self._lock = random.Random(seed), threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(target.removeprefix("http://")))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def choose(self, method: str, path: str) -> str | None:
        """What happens to this call."""
        with self._lock:
            self.calls += 1
            struck = self._chance.random() < self.share and self.only.match(f"{method} {path}")
            fault = self._chance.choice(self.faults) if struck else None
            if fault:
                self.harmed[fault] += 1
            return fault

    def _handler(proxy, target: str) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                self.upstream = http.client.HTTPConnection(target, timeout=60)

            def finish(self) -> None:
                self.upstream.close()
                super().finish()

            def carry(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.choose(self.command, self.path)
                if fault == "500":
                    self.answer(500, {}, b"<Error><Code>InternalError</Code><Message>planted</Message></Error>")
                    return
                if fault == "reset":
                    self.hang_up()
                    return
                status, headers, answer = self.ask(body)
                if fault == "lost reply":
                    self.hang_up()
                    return
                if fault == "slow":
                    time.sleep(0.5)
                self.answer(status, headers, answer, cut=fault == "cut short")

            def ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                # Host stays what the client said: its signature covers it.
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("expect", "connection")}
                self.upstream.request(self.command, self.path, body or None, headers)
                reply = self.upstream.getresponse()
                kept = {k: v for k, v in reply.getheaders() if k.lower() not in ("transfer-encoding", "connection", "content-length")}
                if self.command == "HEAD" and (size := reply.getheader("Content-Length")):
                    kept["Content-Length"] = size
                return reply.status, kept, reply.read()

            def answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if self.command != "HEAD" and status not in (204, 304):
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[: len(body) // 2] if cut else body)
                if cut:
                    self.wfile.flush()
                    self.hang_up()

            def hang_up(self) -> None:
                """Break the connection with a reset, not an orderly end."""
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.wfile = _Nowhere()  # type: ignore[assignment]  # what the base class flushes at the end

            def log_message(self, *_: Any) -> None:
                """Thousands of calls need no lines."""

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = carry

        return Handler


class _Nowhere:
    closed = True

    def flush(self) -> None: ...
    def close(self) -> None: ...
    def write(self, _: bytes) -> int:
        return 0
