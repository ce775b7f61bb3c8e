"""One body at a time from a URL to a file: redirects, retries, caps. What a body means is in `http` and `_pages`.

A body counts only when all of it arrived, so nothing of a torn answer is ever parsed: lengths are checked, gzip must
reach its end mark, and both sizes, as sent and unpacked, are bounded while they stream.
"""

import random
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, TypeVar

import httpx

from zebra_assets.datasets.connectors._safe_http import Checked, Resolve, SafeTransport, place, resolve
from zebra_assets.errors import DataInvalid, NotFound, Refused, SpecInvalid, Unavailable

T = TypeVar("T")
MAX_REDIRECTS = 5
LONGEST_WAIT_S = 30.0
# Deflate reaches 1032:1; rows of text stay below 100:1. Small bodies may do as they like.
BOMB_BYTES, BOMB_RATIO = 64 << 20, 200


@dataclass(frozen=True)
class Caps:
    """Bounds of one reading: bytes unpacked, seconds in all, seconds of silence, tries per body, first wait between two."""

    max_bytes: int = 2 << 30
    max_seconds: float = 3600
    timeout_s: float = 30
    attempts: int = 4
    backoff_s: float = 0.5


@dataclass(frozen=True)
class Answer:
    """What came with a body."""

    url: httpx.URL
    headers: httpx.Headers
    links: Mapping[str | None, dict[str, str]]

    def revision(self) -> str | None:
        """The ETag, else the time of the last change, else None."""
        return self.headers.get("etag") or self.headers.get("last-modified")


class _Again(Exception):
    """The server may answer better later; after how many seconds, if it says."""

    def __init__(self, said: str, wait_s: float | None = None) -> None:
        super().__init__(said)
        self.wait_s = wait_s


class Session:
    """One reading of a source: its connections, its deadline and what is left of its bytes.

    Args:
        where: the source in messages.
        origin: the recipe's URL. Its scheme, host and port are the only ones that `headers` and its user are sent to.
        allowed: see `Checked`.
    """

    def __init__(
        self, where: str, origin: httpx.URL, headers: Mapping[str, str], allowed: frozenset[str], caps: Caps, resolve: Resolve = resolve
    ) -> None:
        self.where, self.origin, self.caps = where, origin, caps
        self.headers = httpx.Headers(dict(headers))
        if origin.userinfo:
            self.headers.setdefault("Authorization", "Basic " + b64encode(f"{origin.username}:{origin.password}".encode()).decode())
        self.left = caps.max_bytes
        self.deadline = time.monotonic() + caps.max_seconds
        # Not through httpx.Client: it logs every URL at INFO, and a URL may hold a secret.
        self._transport = SafeTransport(Checked(allowed, self.deadline, resolve))

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._transport.close()

    def save(self, url: httpx.URL, file: BinaryIO, *, framed: bool = True) -> Answer:
        """Write the body at ``url`` to ``file``, from where it stands, unpacked if it was gzip.

        Args:
            framed: refuse a body that does not say where it ends; False for text that shows it when cut, such as JSON.

        Raises:
            NotFound, SpecInvalid: 404 and 410; any other answer that no repetition mends.
            Refused: URL or redirect lead where no request may go.
            DataInvalid: larger than allowed, or in a packing that was not asked for.
            Unavailable: no complete answer after all tries, or in time.
        """
        start = file.tell()

        def once() -> Answer:
            file.seek(start)
            file.truncate()
            with self._open("GET", url) as response:
                if framed and not {"content-length", "transfer-encoding", "content-encoding"} & set(response.headers):
                    raise DataInvalid(
                        f"{self.where} does not say how long its answer is; a cut one would look whole.",
                        fix="let the server send Content-Length, or: source.parameters.allow_unframed: true",
                    )
                for piece in self._pieces(response):
                    if file.tell() - start + len(piece) > self.left:
                        raise DataInvalid(
                            f"{self.where} is larger than {self.caps.max_bytes:,} bytes.",
                            fix="raise source.parameters.max_bytes, or ask for less",
                        )
                    file.write(piece)
                return Answer(response.url, response.headers, response.links)

        answer = self._again_and_again(once)
        self.left -= file.tell() - start
        return answer

    def head(self, url: httpx.URL) -> Answer | None:
        """What would come with the body; None where the server does not answer HEAD. Raises as `save`."""

        def once() -> Answer | None:
            with self._open("HEAD", url) as response:
                return Answer(response.url, response.headers, response.links)

        try:
            return self._again_and_again(once)
        except SpecInvalid:
            return None

    def _again_and_again(self, once: Callable[[], T]) -> T:
        for attempt in range(self.caps.attempts):
            try:
                return once()
            except (_Again, httpx.TransportError) as error:
                said = error
            most = min(self.caps.backoff_s * 2**attempt, LONGEST_WAIT_S)
            wait = said.wait_s if isinstance(said, _Again) and said.wait_s is not None else random.uniform(most / 2, most)  # noqa: S311
            if attempt + 1 == self.caps.attempts or time.monotonic() + wait > self.deadline:
                break
            time.sleep(min(wait, LONGEST_WAIT_S))
        raise Unavailable(
            f"{self.where} gave no complete answer in {attempt + 1} tries: {said}.", fix="run the ingest again when the server is well"
        ) from said

    @contextmanager
    def _open(self, method: str, url: httpx.URL) -> Iterator[httpx.Response]:
        for _ in range(MAX_REDIRECTS + 1):
            url = self._fit(url)
            ours = _origin(url) == _origin(self.origin)
            request = httpx.Request(method, url, headers=self.headers if ours else None)
            request.headers.update({"Accept-Encoding": "gzip", "User-Agent": "zebraops"})
            request.extensions = {"timeout": httpx.Timeout(self.caps.timeout_s).as_dict()}
            response = self._transport.handle_request(request)
            response.request = request
            try:
                if not response.has_redirect_location:
                    self._judge(response)
                    yield response
                    return
                url = join(url, response.headers["location"], self.where)
            finally:
                response.close()
        raise Refused(f"{self.where} redirects more than {MAX_REDIRECTS} times.", fix="write the final URL into source.url")

    def _fit(self, url: httpx.URL) -> httpx.URL:
        """The URL without user and fragment, if it may be asked at all."""
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused(f"{self.where} leads to a {url.scheme or 'nameless'} URL.", fix="only http and https are read")
        if self.origin.scheme == "https" and url.scheme == "http":
            raise Refused(f"{self.where} leads from https to http at {url.host}.", fix="let the server stay on https")
        return url.copy_with(userinfo=b"", fragment=None)

    def _judge(self, response: httpx.Response) -> None:
        status, reason = response.status_code, response.reason_phrase
        if status == 200:
            return
        said = f"{self.where} answered {status} {reason}".rstrip()
        if status == 429 or status >= 500:
            after = response.headers.get("retry-after", "")
            raise _Again(f"{status} {reason}".rstrip(), float(after) if after.isdigit() else None)
        if status in (404, 410):
            raise NotFound(f"{said}.", fix="correct source.url in dataset.yaml")
        fix = "source.parameters.headers: {Authorization: 'Bearer ${TOKEN}'}" if status in (401, 403) else "correct source in dataset.yaml"
        raise SpecInvalid(f"{said}; rows come with 200 only.", fix=fix)

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        packing = response.headers.get("content-encoding", "identity").strip().lower()
        if packing not in ("identity", "gzip", "x-gzip", ""):
            raise DataInvalid(f"{self.where} is packed as {packing!r}, though only gzip was asked for.", fix="let the server send gzip")
        raw = response.iter_raw()
        pieces = gunzip(raw, self.where) if packing.endswith("gzip") else raw
        first = next(pieces, b"")
        rest = _chain(first, pieces)
        yield from gunzip(rest, self.where) if first[:2] == b"\x1f\x8b" else rest  # a .gz file


def gunzip(pieces: Iterable[bytes], where: str) -> Iterator[bytes]:
    """Unpack in steps of at most 1 MiB, whatever a piece claims to hold.

    Raises:
        DataInvalid: not gzip, or it swells like a bomb.
        httpx.TransportError: it ends before its end mark.
    """
    inner, taken, given = zlib.decompressobj(31), 0, 0
    for piece in pieces:
        data, taken = piece, taken + len(piece)
        while data and not (inner.eof and not data.strip(b"\0")):  # gzip files may be padded with zeros
            inner = zlib.decompressobj(31) if inner.eof else inner
            try:
                out = inner.decompress(data, 1 << 20)
            except zlib.error as error:
                raise DataInvalid(f"{where} is not gzip, though it says so: {error}.", fix="let the server pack it anew") from error
            given += len(out)
            if given > BOMB_BYTES and given > BOMB_RATIO * taken:
                raise DataInvalid(
                    f"{where} swells {given // taken}-fold when unpacked, like a bomb.", fix="let the server send it unpacked"
                )
            yield out
            data = inner.unused_data if inner.eof else inner.unconsumed_tail
    while not inner.eof:
        out = inner.decompress(b"", 1 << 20)
        if not out:
            raise httpx.TransportError("the packed body ended early")
        yield out


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _origin(url: httpx.URL) -> tuple[str, str]:
    return url.scheme, place(url.host, url.port or (443 if url.scheme == "https" else 80))


def join(url: httpx.URL, target: str, where: str) -> httpx.URL:
    """Where ``target`` leads from ``url``; `Refused` when it is no URL."""
    try:
        return url.join(target)
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        raise Refused(f"{where} leads to what is no URL.", fix="write the final URL into source.url") from error
