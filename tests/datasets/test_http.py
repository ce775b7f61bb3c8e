"""The http connector on a real server: every shape of answer gives the same rows, every broken one gives none."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.datasets.conftest import Bench, csv_bytes, jsonl_bytes, people, recipe
from tests.datasets.web import Handler, Web, serve
from zebra_assets.datasets.ingest import revision_of
from zebra_assets.errors import DataInvalid, NotFound, Refused, SpecInvalid, Unavailable

PEOPLE = people(95)
ROWS = [json.loads(line) for line in jsonl_bytes(PEOPLE).splitlines()]
ALLOWED = "ZEBRA_HTTP_ALLOW_PRIVATE"


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as web:
        yield web


def read(bench: Bench, web: Web, path: str, **parameters: Any) -> Any:
    return bench.ingest(recipe(source=web.source(path, **parameters)), **{ALLOWED: web.place})


def as_json(body: Any) -> bytes:
    return json.dumps(body).encode()


def pages(web: Web, size: int = 20) -> None:
    """The same rows behind the four usual ways of paging."""

    def part(start: int) -> list[Any]:
        return ROWS[start : start + size]

    def by_cursor(h: Handler) -> None:
        start = int(h.query("after", "0"))
        more = str(start + size) if start + size < len(ROWS) else None
        h.give(as_json({"data": {"items": part(start)}, "meta": {"next": more}}))

    def by_link(h: Handler) -> None:
        start = int(h.query("from", "0"))
        link = {"Link": f'</link?from={start + size}>; rel="next"'} if start + size < len(ROWS) else {}
        h.give(as_json(part(start)), **link)

    def by_url(h: Handler) -> None:
        start = int(h.query("from", "0"))
        h.give(as_json({"rows": part(start), "next": web.url(f"/url?from={start + size}") if start + size < len(ROWS) else None}))

    web.answers |= {
        "/page": lambda h: h.give(as_json(part((int(h.query("page")) - 1) * size))),
        "/offset": lambda h: h.give(as_json({"rows": part(int(h.query("skip")))})),
        "/cursor": by_cursor,
        "/link": by_link,
        "/url": by_url,
    }


def test_every_shape_of_answer_gives_the_manifest_that_the_file_gives(bench: Bench, web: Web) -> None:
    bench.put("rows.csv", csv_bytes(PEOPLE))
    wanted = bench.ingest().manifest.id
    web.gives("/rows.csv", csv_bytes(PEOPLE))
    web.gives("/rows.tsv", csv_bytes(PEOPLE, "\t"))
    web.gives("/rows.csv.gz", gzip.compress(csv_bytes(PEOPLE)) + bytes(100))
    web.gives("/two.csv.gz", gzip.compress(csv_bytes(PEOPLE)[:999]) + gzip.compress(csv_bytes(PEOPLE)[999:]))
    web.gives("/rows.ndjson", jsonl_bytes(PEOPLE))
    web.gives("/typed", csv_bytes(PEOPLE), Content_Type="text/csv; charset=utf-8")
    web.gives("/packed", gzip.compress(jsonl_bytes(PEOPLE)), Content_Type="application/x-ndjson", Content_Encoding="gzip")
    web.gives("/list", as_json(ROWS), Content_Type="application/json")
    web.gives("/moved", b"", 302, Location="/rows.csv")
    pages(web)
    shapes: dict[str, dict[str, Any]] = {
        **{path: {} for path in ["/rows.csv", "/rows.tsv", "/rows.csv.gz", "/two.csv.gz", "/rows.ndjson", "/typed", "/packed", "/list"]},
        "/moved": {"format": "csv"},
        "/page": {"paging": "page"},
        "/offset": {"paging": "offset", "parameter": "skip", "records": "rows"},
        "/cursor": {"paging": "cursor", "parameter": "after", "records": "data.items", "following": "meta.next"},
        "/link": {"paging": "link"},
        "/url": {"paging": "link", "records": "rows", "following": "next"},
    }
    assert {path: read(bench, web, path, **said).manifest.id for path, said in shapes.items()} == dict.fromkeys(shapes, wanted)


def test_a_recipe_alone_opens_no_private_door_nor_does_the_deployment_alone(bench: Bench, web: Web) -> None:
    web.gives("/rows.csv", csv_bytes(PEOPLE))
    with pytest.raises(Refused, match="this deployment does not allow"):
        bench.ingest(recipe(source=web.source("/rows.csv")))
    with pytest.raises(Refused, match=r"127\.0\.0\.1 is not public"):
        read(bench, web, "/rows.csv", allow_private=[])
    assert web.connections == 0
    assert read(bench, web, "/rows.csv").created


def test_secrets_reach_their_origin_and_nothing_else(bench: Bench, web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with serve() as other:
        other.gives("/rows.csv", csv_bytes(PEOPLE))
        web.gives("/rows.csv", b"", 307, Location=other.url("/rows.csv"))
        source = web.source("/rows.csv", headers={"X-Key": "${KEY}"}, query={"token": "${KEY}"}, allow_private=[web.place, other.place])
        source["url"] = source["url"].replace("//", "//me:${KEY}@")
        done = bench.ingest(recipe(source=source), KEY="hush-hush", **{ALLOWED: f"{web.place}, {other.place}"})
        path, sent = web.seen[0]
        assert path == "/rows.csv?token=hush-hush"
        assert (sent["X-Key"], sent["Authorization"][:6]) == ("hush-hush", "Basic ")
        assert "hush" not in str(other.seen)
        assert not {"X-Key", "Authorization"} & set(other.seen[0][1])
    assert "hush" not in done.manifest.to_json() + caplog.text
    assert done.manifest.source.location == web.url("/rows.csv").replace("//", "//***@")


def test_the_revision_is_the_etag_before_and_after_reading(bench: Bench, web: Web) -> None:
    web.gives("/rows.csv", csv_bytes(PEOPLE), ETag='"v1"', Last_Modified="Sat, 01 Nov 2025 00:00:00 GMT")
    spec = recipe(source=web.source("/rows.csv"))
    assert revision_of(spec, project=bench.folder, secrets={ALLOWED: web.place}) == '"v1"'
    assert read(bench, web, "/rows.csv").manifest.source.revision == '"v1"'
    web.gives("/rows.csv", b"", Last_Modified="Sat, 01 Nov 2025 00:00:00 GMT")
    assert revision_of(spec, project=bench.folder, secrets={ALLOWED: web.place}) == "Sat, 01 Nov 2025 00:00:00 GMT"
    web.gives("/rows.csv", b"", 405)
    assert revision_of(spec, project=bench.folder, secrets={ALLOWED: web.place}) is None
    web.gives("/rows.csv", b"", 503)
    assert revision_of(spec, project=bench.folder, secrets={ALLOWED: web.place}) is None


@pytest.mark.parametrize("failures", [[503], [429, 500, 502], ["reset"], ["short"]], ids=str)
def test_what_passes_is_tried_again(bench: Bench, web: Web, failures: list[Any]) -> None:
    body, left = csv_bytes(PEOPLE), list(failures)

    def answer(h: Handler) -> None:
        failure = left.pop(0) if left else 200
        if failure == "reset":
            h.reset()
        elif failure == "short":
            h.raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:2000])
        else:
            h.give(body if failure == 200 else b"", failure, **({"Retry-After": "0"} if failure == 429 else {}))

    web.answers["/rows.csv"] = answer
    assert read(bench, web, "/rows.csv").manifest.stats.rows == 95
    assert len(web.seen) == len(failures) + 1


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n"
BODY = csv_bytes(PEOPLE)
PACKED = gzip.compress(BODY)
BROKEN = {
    "short body": lambda h: h.raw(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:-40]),
    "missing last chunk": lambda h: h.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n"),
    "torn gzip": lambda h: h.give(PACKED[:-9], Content_Encoding="gzip"),
    "torn gz file": lambda h: h.give(PACKED[:-9]),
    "no answer": lambda h: h.raw(b""),
    "nonsense": lambda h: h.raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "reset": lambda h: h.reset(),
    "busy": lambda h: h.give(b"", 503),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_answer_that_is_not_whole_is_unavailable_and_leaves_nothing(bench: Bench, web: Web, case: str) -> None:
    web.answers["/rows.csv"] = BROKEN[case]
    with pytest.raises(Unavailable, match="no complete answer in 3 tries"):
        read(bench, web, "/rows.csv", attempts=3)
    assert len(web.seen) == 3
    assert bench.files() == set()


@pytest.mark.parametrize("where", ["headers", "body", "nothing"])
def test_a_server_that_stalls_or_drips_ends_in_time(bench: Bench, web: Web, where: str) -> None:
    done = threading.Event()

    def drip(h: Handler) -> None:
        if where != "nothing":
            h.wfile.write(HEAD + (b"Content-Length: 9999\r\n\r\n" if where == "body" else b"X-Long: "))
        while where != "nothing" and not done.wait(0.02):
            h.wfile.write(b"x")
        done.wait(30)
        h.close_connection = True

    web.answers["/rows.csv"] = drip
    began = time.monotonic()
    with pytest.raises(Unavailable):
        read(bench, web, "/rows.csv", attempts=2, timeout_s=0.15, max_seconds=0.5)
    done.set()
    assert time.monotonic() - began < 15  # the server would go on for 30 s
    assert bench.files() == set()


BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "too large": (lambda h: h.give(BODY), {"max_bytes": 5000}, DataInvalid, "larger than 5,000 bytes"),
    "too large unpacked": (lambda h: h.give(PACKED, Content_Encoding="gzip"), {"max_bytes": 5000}, DataInvalid, "larger than 5,000"),
    "an unknown packing": (lambda h: h.give(BODY, Content_Encoding="br"), {}, DataInvalid, "packed as 'br'"),
    "no gzip": (lambda h: h.give(BODY, Content_Encoding="gzip"), {}, DataInvalid, "is not gzip"),
    "no end in sight": (lambda h: h.raw(HEAD + b"\r\n" + BODY), {}, DataInvalid, "how long its answer is"),
    "gone": (lambda h: h.give(b"", 410), {}, NotFound, "answered 410"),
    "forbidden": (lambda h: h.give(b"", 403), {}, SpecInvalid, "answered 403"),
    "no content": (lambda h: h.raw(b"HTTP/1.1 204 No Content\r\n\r\n"), {}, SpecInvalid, "answered 204"),
    "a redirect to itself": (lambda h: h.give(b"", 302, Location="/rows.csv"), {}, Refused, "more than 5 times"),
    "a column is missing": (lambda h: h.give(BODY.replace(b"visits", b"vistis")), {}, DataInvalid, "Did you mean 'vistis'"),
    "torn line": (lambda h: h.give(BODY + b"only,three,cells\n"), {}, DataInvalid, "3 cells instead of 8"),
    "not UTF-8": (lambda h: h.give(BODY.replace(b"Zo\xc3\xab", b"Zo\xeb")), {}, DataInvalid, "not UTF-8"),
    "nothing": (lambda h: h.give(b""), {}, DataInvalid, "has no rows"),
    "html": (lambda h: h.give(b"<html>"), {"format": "json"}, DataInvalid, "is not JSON"),
    "deep JSON": (lambda h: h.give(b"[" * 200_000), {"format": "json"}, DataInvalid, "is not JSON"),
    "a huge page": (lambda h: h.give(b'["' + bytes(33 << 20) + b'"]'), {"format": "json"}, DataInvalid, "larger than 33,554,432"),
    "records elsewhere": (lambda h: h.give(b'{"rows": []}'), {"format": "json"}, DataInvalid, "it has 'rows'"),
    "records of numbers": (lambda h: h.give(b"[1]"), {"format": "json"}, DataInvalid, "record 1 is int"),
    "the page is ignored": (lambda h: h.give(as_json(ROWS)), {"paging": "page"}, DataInvalid, "again and again"),
    "more pages than allowed": (
        lambda h: h.give(as_json(ROWS[int(h.query("page")) :][:1])),
        {"paging": "page", "max_pages": 5},
        DataInvalid,
        "more than 5 pages",
    ),
    "a cursor in a circle": (
        lambda h: h.give(as_json({"r": ROWS, "n": "b" if h.query("cursor") == "a" else "a"})),
        {"paging": "cursor", "records": "r", "following": "n"},
        DataInvalid,
        "again and again",
    ),
    "a page fails": (lambda h: h.give(as_json(ROWS[:9]), 500 if h.query("page") == "2" else 200), {"paging": "page"}, Unavailable, "500"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_is_told_at_once_and_leaves_nothing(bench: Bench, web: Web, case: str) -> None:
    answer, said, kind, words = BAD[case]
    web.answers["/rows.csv"] = answer
    began = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        read(bench, web, "/rows.csv", **said)
    assert time.monotonic() - began < 15  # 0.1 s on an idle core
    assert "zebra-http-" not in str(caught.value)
    assert bench.files() == set()


def test_a_bomb_is_stopped_while_it_swells(bench: Bench, web: Web) -> None:
    web.gives("/rows.csv", gzip.compress(bytes(300 << 20), 9), Content_Encoding="gzip")
    with pytest.raises(DataInvalid, match="like a bomb"):
        read(bench, web, "/rows.csv")
    assert bench.files() == set()


def test_an_unframed_body_is_read_where_the_recipe_says_so(bench: Bench, web: Web) -> None:
    web.answers["/rows.csv"] = lambda h: h.raw(HEAD + b"\r\n" + BODY)
    assert read(bench, web, "/rows.csv", allow_unframed=True).manifest.stats.rows == 95


@pytest.mark.parametrize(
    ("url", "parameters", "words"),
    [
        (None, {}, "source.url is missing"),
        ("https://example.org/${NOPE}", {}, "secret NOPE"),
        ("https://example.org/a.csv", {"max_byte": 1}, "Did you mean 'max_bytes'"),
        ("https://example.org/a.csv", {"paging": "page", "format": "csv"}, "paging is for json"),
        ("https://example.org/a", {"paging": "cursor"}, "path to the next"),
    ],
)
def test_options_that_do_not_fit_are_told_before_anything_is_asked(bench: Bench, url: str | None, parameters: Any, words: str) -> None:
    with pytest.raises(SpecInvalid, match=words):
        bench.ingest(recipe(source={"connector": "http", "url": url, "parameters": parameters}))
