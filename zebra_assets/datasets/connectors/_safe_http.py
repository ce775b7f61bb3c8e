"""The only way out over HTTP: connections to public addresses, or to what recipe and deployment both allow.

A recipe's URL is written by people and a redirect by strangers; neither may make this process speak to its own network
(server-side request forgery). So the check stands where the socket opens: the name is resolved once, *every* address it
has must be public, and the connection goes to an address that was checked. A name that resolves differently a moment
later, a redirect, a proxy in the environment: nothing passes by. Called by `_download`.
"""

import ipaddress
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from zebra_assets.errors import Refused

PORTS = (80, 443, 8080, 8443)
# What Python 3.11 calls global, or what is global but leads inside: relays and translators that embed an IPv4 address,
# documentation, benchmarks, and Azure's host agent, which hands out credentials at a public address.
_NEVER = [
    ipaddress.ip_network(net)
    for net in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "240.0.0.0/4", "2001::/23", "2002::/16", "3fff::/20", "2001:db8::/32")
]
_UNICAST = ipaddress.ip_network("2000::/3")  # all that is ever assigned; mapped, NAT64 and site-local addresses lie outside
Resolve = Callable[[str, int], list[str]]


def public(address: str) -> bool:
    """Whether an IPv4 or IPv6 address is one host of the open internet, by every reading of it."""
    ip = ipaddress.ip_address(address)
    inside = any(ip.version == net.version and ip in net for net in _NEVER)
    return ip.is_global and not ip.is_multicast and not inside and (ip.version == 4 or ip in _UNICAST)


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host, as the system tells them; it also reads 127.1, 0x7f000001 and 017700000001.

    Raises:
        httpcore.ConnectError: the name has none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"the name {host} does not resolve") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def place(host: str, port: int) -> str:
    """``host:port`` as the allow-list writes it, lower case, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host.lower()}:{port}"


class Checked(httpcore.NetworkBackend):
    """Opens sockets to checked addresses only, and ends every one of them at the deadline.

    Args:
        allowed: places that may be private, or at another port than `PORTS`.
        deadline: `time.monotonic()` after which no byte is read.
    """

    def __init__(self, allowed: frozenset[str], deadline: float, resolve: Resolve = resolve) -> None:
        self.allowed, self.deadline, self.resolve = allowed, deadline, resolve
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first of the host's addresses that answers.

        Raises:
            Refused: any of them is not public, or the port is unusual, and the place is not allowed.
        """
        addresses = self.resolve(host, port)
        if place(host, port) not in self.allowed:
            refuse(host, port, addresses)
        failed: Exception = httpcore.ConnectError(f"the name {host} has no address")
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(address, port, left(self.deadline, timeout), local_address, socket_options)
                return _Timed(stream, self.deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


def refuse(host: str, port: int, addresses: list[str]) -> None:
    """Raise `Refused` unless all addresses are public and the port is a usual one."""
    inside = [address for address in addresses if not public(address)]
    at = place(host, port)
    if inside or port not in PORTS:
        why = f"its address {inside[0]} is not public" if inside else f"port {port} is not one of {', '.join(map(str, PORTS))}"
        raise Refused(
            f"{at} was not contacted: {why}.",
            fix=f"if it is meant: allow_private: ['{at}'] in source.parameters, and ZEBRA_HTTP_ALLOW_PRIVATE={at} in .env",
        )


def left(deadline: float, timeout: float | None) -> float:
    """The seconds a socket may still wait; `httpcore.ReadTimeout` when there are none."""
    rest = deadline - time.monotonic()
    if rest <= 0:
        raise httpcore.ReadTimeout("the time for the whole source is up")
    return rest if timeout is None else min(rest, timeout)


class _Timed(httpcore.NetworkStream):
    """A stream whose reads and writes together end at a deadline, however slowly bytes drip."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> httpcore.NetworkStream:
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left(self._deadline, timeout)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class SafeTransport(httpx.BaseTransport):
    """An httpx transport over `Checked`: HTTP/1.1, no proxies, certificates checked against the name in the URL."""

    def __init__(self, backend: Checked) -> None:
        self._pool = httpcore.ConnectionPool(ssl_context=httpx.create_ssl_context(trust_env=False), network_backend=backend)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path)
        content = request.stream
        assert isinstance(content, httpx.SyncByteStream)
        with _as_httpx():
            answer = self._pool.handle_request(
                httpcore.Request(request.method, url, headers=request.headers.raw, content=content, extensions=request.extensions)
            )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """httpcore's failures as the `httpx.TransportError` that a transport promises."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise httpx.TransportError(str(error) or type(error).__name__) from error
