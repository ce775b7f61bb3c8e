"""Clients that send too much head, or too little of anything, against a server process: none of them holds it up."""

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serving.conftest import ROW, Shelf, make_bench, until
from zebra_serving.access.connections import HEAD_BYTES, HEAD_S, MOST


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Iterator[httpx.Client]:
    bench = make_bench(tmp_path_factory.mktemp("project"), shelf)
    bench.promote("1")
    with bench.server() as (_, client):
        yield client


def dial(client: httpx.Client) -> socket.socket:
    place = urlsplit(str(client.base_url))
    return socket.create_connection((place.hostname, place.port), timeout=30)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"GET /health HTTP/1.1\r\nhost: localhost\r\n", id="head"),
        # Of somebody without a token, too: the answer is out before the body ends, and what follows would be kept until it does.
        pytest.param(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", id="trailers"),
    ],
)
def test_headers_without_end_are_cut_off(client: httpx.Client, before: bytes) -> None:
    with dial(client) as line:
        line.sendall(before)
        sent = 0
        with pytest.raises(OSError):
            while sent < 50_000_000:
                sent += line.send(b"x-more: " + b"a" * 8000 + b"\r\n")
        assert sent < 5_000_000
    assert client.get("/health").status_code == 200


def test_a_body_in_small_chunks_is_no_trailer(client: httpx.Client) -> None:
    rows = json.dumps({"rows": [ROW] * 400}).encode()
    assert len(rows) * 6 > 2 * HEAD_BYTES > len(rows)
    said = client.post("/predict", content=(rows[at : at + 1] for at in range(len(rows))), headers={"content-type": "application/json"})
    assert said.status_code == 200 and len(said.json()["predictions"]) == 400


def test_clients_that_dribble_are_sent_away_while_others_are_answered(client: httpx.Client) -> None:
    slow = [dial(client) for _ in range(50)]
    for number, line in enumerate(slow):
        if number % 2:
            line.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\nx-")
    for line in slow[:10:2]:  # a request, and then an empty line, which begins none
        line.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        said = b""
        while b'"alive"' not in said:
            said += line.recv(1000)
        line.sendall(b"\r\n")
    began = time.monotonic()
    while time.monotonic() - began < HEAD_S - 3:
        assert client.post("/predict", json=ROW).status_code == 200  # one connection, kept alive, for longer than a head may take
        for line in slow[1::2]:
            line.sendall(b"a")
        time.sleep(0.5)
    for line in slow:
        said = line.recv(1000)
        assert said.startswith(b"HTTP/1.1 408") and line.recv(10) == b""
        line.close()
    assert HEAD_S - 1 < time.monotonic() - began < HEAD_S + 6
    assert client.post("/predict", json=ROW).status_code == 200


def test_beyond_the_last_connection_a_request_is_refused_in_words_and_health_goes_on(client: httpx.Client) -> None:
    assert client.post("/predict", json=ROW).status_code == 200
    held = [dial(client) for _ in range(MOST)]
    try:
        with httpx.Client(base_url=client.base_url) as late:
            assert late.get("/health").status_code == 200
            said = late.post("/predict", json=ROW, headers={"x-request-id": "late-1"})
            assert (said.status_code, said.headers["retry-after"], said.headers["connection"]) == (503, "1", "close")
            assert said.json()["request_id"] == said.headers["x-request-id"] == "late-1"
            assert "connections" in said.json()["error"]
    finally:
        for line in held:
            line.close()
    until(lambda: client.post("/predict", json=ROW).status_code == 200)
    assert 'zebra_requests_total{route="/predict",status="503"}' in client.get("/metrics").text


def test_requests_in_one_packet_and_in_many_are_answered_alike(client: httpx.Client) -> None:
    one = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with dial(client) as line:
        line.sendall(one * 3)
        for byte in one:
            line.sendall(bytes([byte]))
        said = b""
        while said.count(b'"alive"') < 4:
            piece = line.recv(10_000)
            assert piece
            said += piece
    assert said.count(b"HTTP/1.1 200") == 4
