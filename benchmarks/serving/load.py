"""A load generator: N keep-alive connections that ask one request over and over. `python load.py URL BODY_FILE CONTENT_TYPE N SECONDS`.

asyncio protocols and uvloop; prints JSON: requests, failures, latencies in ms.
Runs in a process of its own, so that what it uses is not counted as the server's.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import uvloop


class Client(asyncio.Protocol):
    """One connection: send, wait for the whole answer, send again until the time is over."""

    def __init__(self, request: bytes, until: float, done: "asyncio.Future[None]") -> None:
        self.request, self.until, self.done = request, until, done
        self.latencies: list[float] = []
        self.failed = 0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self._buffer[:head].lower()
        at = lower.find(b"content-length:")
        if at >= 0:
            length = int(lower[at + 15 : (lower + b"\r\n").find(b"\r\n", at)])
            if len(self._buffer) < head + 4 + length:
                return
        elif not self._buffer.endswith(b"0\r\n\r\n"):  # chunked
            return
        now = time.perf_counter()
        self.latencies.append(now - self._began)
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            self.failed += 1
        self._buffer = b""
        if now >= self.until:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if time.perf_counter() < self.until:
            self.failed += 1
        if not self.done.done():
            self.done.set_result(None)


async def measure(url: str, body: bytes, kind: str, connections: int, seconds: float) -> dict[str, object]:
    """Ask for ``seconds``; the figures of all connections together."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    clients = []
    for _ in range(connections):
        client = Client(head.encode() + body, began + seconds, loop.create_future())
        await loop.create_connection(lambda client=client: client, parts.hostname, parts.port)
        clients.append(client)
    await asyncio.wait_for(asyncio.gather(*(c.done for c in clients)), seconds + 60)
    took = time.perf_counter() - began
    all_of = sorted(latency for c in clients for latency in c.latencies)
    return {
        "requests": len(all_of),
        "failed": sum(c.failed for c in clients),
        "seconds": took,
        "p50_ms": all_of[len(all_of) // 2] * 1e3,
        "p99_ms": all_of[int(len(all_of) * 0.99)] * 1e3,
    }


if __name__ == "__main__":
    address, path, media, number, duration = sys.argv[1:]
    print(json.dumps(uvloop.run(measure(address, Path(path).read_bytes(), media, int(number), float(duration)))))
