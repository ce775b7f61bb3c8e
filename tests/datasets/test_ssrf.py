"""No URL, redirect, page or name makes the http connector open a socket to an inside address; counted by the interpreter."""

import io
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest

from tests.datasets.conftest import Bench, recipe
from tests.datasets.web import Web, serve
from zebra_assets.contracts.dataset_spec import SourceSpec
from zebra_assets.datasets.connectors import _safe_http
from zebra_assets.datasets.connectors._download import Caps, Session
from zebra_assets.datasets.connectors._safe_http import public, resolve
from zebra_assets.datasets.connectors.http import KIND
from zebra_assets.errors import Refused, Unavailable, ZebraError

_watching: list[list[Any]] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _watching:
        _watching[-1].append(args[1])


sys.addaudithook(_hook)  # an audit hook cannot be removed; it is deaf outside `sockets`


@contextmanager
def sockets() -> Iterator[list[Any]]:
    """Every address that anything in this process connects to meanwhile."""
    seen: list[Any] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


# Literal hosts, read by the system's own resolver.
LITERALS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7F.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "127.0x0.1",
    "00000177.1",
    "0",
    "0.0.0.0",
    "0x0",
    "000.000.000.000",
    "10.0.0.1",
    "10.255.255.255",
    "0xa000001",
    "167772161",
    "012.0.0.1",
    "172.16.0.1",
    "172.31.255.254",
    "2886729729",
    "192.168.0.1",
    "192.168.1",
    "3232235777",
    "0xc0a80101",
    "169.254.169.254",
    "169.254.1",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "0xa9.254.0251.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "198.18.0.1",
    "192.0.2.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "224.0.1.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "192.88.99.1",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::0001]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:10.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fd12:3456:789a::1]",
    "[ff02::1]",
    "[ff0e::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[100::1]",
    "[5f00::1]",
    "localhost",
]
# Names as a hostile name server answers; all addresses of a name count.
NAMES = {
    "metadata.google.internal": ["169.254.169.254"],
    "localtest.me": ["127.0.0.1"],
    "127.0.0.1.nip.io": ["127.0.0.1"],
    "public-first.test": ["93.184.215.14", "127.0.0.1"],
    "inside-first.test": ["10.0.0.1", "93.184.215.14"],
    "six.test": ["2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::1"],
    "mapped.test": ["::ffff:192.168.0.1"],
    "zone.test": ["fe80::1%lo"],
}
HOSTILE = [f"http://{host}/" for host in [*LITERALS, *NAMES]] + [
    "https://127.0.0.1/",
    "https://[::1]/",
    "http://127.0.0.1:8080/admin",
    "http://example.org@127.0.0.1/",
    "http://example.org:80@127.0.0.1:80/",
    "http://127.0.0.1#@example.org/",
    "http://127.0.0.1?@example.org/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://%31%32%37.0.0.1/",
    "http://127.0.0.1%00.example.org/",
    "http://127.0.0.1\\@example.org/",
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "dict://127.0.0.1:11211/stats",
    "unix:///var/run/docker.sock",
    "data:text/csv,a,b",
    "jar:http://127.0.0.1!/",
    "//127.0.0.1/",
]


def hostile_names(host: str, port: int) -> list[str]:
    return NAMES[host] if host in NAMES else resolve(host, port)


def ask(url: httpx.URL | str, by: Callable[[str, int], list[str]] = hostile_names, allowed: frozenset[str] = frozenset()) -> None:
    caps = Caps(attempts=2, backoff_s=0, timeout_s=0.3, max_seconds=3)
    with Session("the source", httpx.URL(url), {}, allowed, caps, by) as session:
        session.save(httpx.URL(url), io.BytesIO())


def test_the_table_is_long_and_much_of_it_reaches_loopback_through_a_plain_socket() -> None:
    assert len(set(HOSTILE)) >= 100
    reached = []
    with serve() as web:
        for host in LITERALS:
            with suppress(OSError):
                if socket.getaddrinfo(host.strip("[]"), web.port)[0][4][0] in ("127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"):
                    socket.create_connection((host.strip("[]"), web.port), timeout=1).close()
                    reached.append(host)
    assert len(reached) >= 15, reached


@pytest.mark.parametrize("url", HOSTILE)
def test_no_hostile_url_opens_a_socket(url: str) -> None:
    with sockets() as seen:
        try:
            with pytest.raises((Refused, Unavailable)):  # Unavailable: what no resolver knows
                ask(url)
        except httpx.InvalidURL:
            """Not even a URL."""
        with pytest.raises(ZebraError):
            source = SourceSpec(connector="http", url=url, parameters={"format": "csv", "attempts": 1, "max_seconds": 2})
            list(KIND(source, project=Path(), secrets={}).batches({"a": "string"}))
    assert seen == []


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with serve() as web:
        yield web


@pytest.mark.parametrize("url", [url for url in HOSTILE if url.isascii()])
def test_no_redirect_leads_inside(web: Web, url: str) -> None:
    web.gives("/out", b"", 302, Location=url)
    with sockets() as seen, pytest.raises(ZebraError):
        ask(web.url("/out"), allowed=frozenset({web.place}))
    assert set(seen) == {("127.0.0.1", web.port)}  # the one that is allowed, and redirected


class _Nowhere(httpcore.NetworkBackend):
    """Sockets that note where they should go and do not: tests touch no address outside."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connect_tcp(self, host: str, *_: Any, **__: Any) -> httpcore.NetworkStream:
        self.asked.append(host)
        raise httpcore.ConnectError("nobody there")


def test_a_name_that_turns_after_the_check_is_refused_at_the_next_try() -> None:
    answers = iter([["93.184.215.14", "2606:4700:4700::1111"], ["127.0.0.1"]])
    checked = _safe_http.Checked(frozenset(), time.monotonic() + 5, lambda host, port: next(answers))
    checked._sockets = nowhere = _Nowhere()
    with pytest.raises(httpcore.ConnectError):
        checked.connect_tcp("rebind.test", 80)
    assert nowhere.asked == ["93.184.215.14", "2606:4700:4700::1111"], "addresses, never the name: it would be resolved again"
    with pytest.raises(Refused, match=r"127\.0\.0\.1 is not public"):
        checked.connect_tcp("rebind.test", 80)
    assert len(nowhere.asked) == 2


def test_a_name_is_resolved_once_per_connection_and_the_socket_goes_to_that_address(web: Web) -> None:
    web.gives("/rows.csv", b"a\n1\n")
    asked = []

    def once(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    with sockets() as seen:
        ask(f"http://api.test:{web.port}/rows.csv", once, frozenset({f"api.test:{web.port}"}))
    assert asked == [("api.test", web.port)]
    assert seen == [("127.0.0.1", web.port)]
    assert web.seen[-1][1]["Host"] == f"api.test:{web.port}"


def test_the_allow_list_means_one_port_of_one_name(web: Web) -> None:
    for other in ("localhost", "127.1", "[::ffff:127.0.0.1]"):
        with sockets() as seen, pytest.raises(Refused, match="is not public"):
            ask(f"http://{other}:{web.port}/", resolve, frozenset({web.place}))
        assert seen == []


def test_a_public_address_is_asked_at_usual_ports_only() -> None:
    with sockets() as seen, pytest.raises(Refused, match="port 6379 is not one of"):
        ask("http://cache.test:6379/", lambda host, port: ["93.184.215.14"])
    assert seen == []


def test_a_proxy_in_the_environment_is_passed_by(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, web.url(""))
    with sockets() as seen, pytest.raises(Refused):
        ask("http://10.0.0.1/")
    assert seen == []


def test_https_never_falls_back_to_http() -> None:
    url = httpx.URL("https://example.org/")
    session = Session("the source", url, {}, frozenset(), Caps(attempts=1), hostile_names)
    with session, sockets() as seen, pytest.raises(Refused, match="from https to http"):
        session.save(httpx.URL("http://example.org/"), io.BytesIO())
    assert seen == []


def test_a_next_page_does_not_lead_inside(bench: Bench, web: Web) -> None:
    web.gives("/pages", b'{"rows": [{"id": "a"}], "next": "http://169.254.169.254/latest/meta-data"}')
    source = web.source("/pages", paging="link", records="rows", following="next")
    with sockets() as seen, pytest.raises(Refused, match=r"169\.254\.169\.254 is not public"):
        bench.ingest(recipe(source=source), ZEBRA_HTTP_ALLOW_PRIVATE=web.place)
    assert set(seen) == {("127.0.0.1", web.port)}


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:82f::200e", "172.32.0.1"]
)
def test_the_open_internet_is_public(address: str) -> None:
    assert public(address)


def test_the_guard_is_what_keeps_the_sockets_shut(monkeypatch: pytest.MonkeyPatch, web: Web) -> None:
    """Without it the same counting sees the connection: the tests above can fail."""
    monkeypatch.setattr(_safe_http, "refuse", lambda host, port, addresses: None)
    with sockets() as seen, pytest.raises(ZebraError):
        ask(f"http://2130706433:{web.port}/nothing-here")
    assert seen == [("127.0.0.1", web.port)]
