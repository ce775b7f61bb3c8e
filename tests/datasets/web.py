"""A real HTTP server on loopback whose answers each test writes itself, down to the byte."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Web:
    """The server: what it answers by path, and every request it saw as (path and query, headers)."""

    port: int
    answers: dict[str, Callable[["Handler"], None]] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    connections: int = 0

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"http://{self.place}{path}"

    def gives(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        self.answers[path] = lambda h: h.give(body, status, **headers)
        return self.url(path)

    def source(self, path: str, **parameters: Any) -> dict[str, Any]:
        """A recipe's source; the deployment must still allow the place."""
        quick = {"allow_private": [self.place], "backoff_s": 0.001, "timeout_s": 3, "max_seconds": 30}
        return {"connector": "http", "url": self.url(path), "parameters": quick | parameters}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def setup(self) -> None:
        self.web.connections += 1
        super().setup()

    def do_GET(self) -> None:
        self.web.seen.append((self.path, dict(self.headers)))
        answer = self.web.answers.get(urlsplit(self.path).path)
        answer(self) if answer else self.give(b"", 404)

    do_HEAD = do_GET

    def query(self, name: str, default: str = "") -> str:
        return parse_qs(urlsplit(self.path).query).get(name, [default])[0]

    def give(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def raw(self, data: bytes) -> None:
        """These bytes and the end of the connection."""
        self.wfile.write(data)
        self.wfile.flush()
        self.close_connection = True

    def reset(self) -> None:
        """The connection breaks with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()
        self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            """The test broke the connection on purpose."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (OSError, ValueError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def serve() -> Iterator[Web]:
    handler = type("Bound", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        handler.web = web = Web(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield web
        server.shutdown()
        thread.join()
