"""HTTP: CSV, TSV and JSON lines from a URL, or the records of a paged JSON API.

``${NAME}`` in URL, query and headers is a secret. The answer is first written to a temporary file, whole and within its
caps, and read from there; so a connection that breaks leaves no rows, and bad lines are told as for any file. Only public
addresses are asked (`_safe_http`). Pages are read one after another: an API whose rows move between them is not a snapshot.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Literal

import httpx
import pyarrow as pa
from pydantic import Field

from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.contracts.noun import Noun
from zebra_assets.datasets.connector import fill_secrets, options
from zebra_assets.datasets.connectors import _csv, _jsonl
from zebra_assets.datasets.connectors._download import Answer, Caps, Session
from zebra_assets.datasets.connectors._pages import Pages, Paging
from zebra_assets.errors import DataInvalid, Refused, SpecInvalid, Unavailable

Format = Literal["csv", "tsv", "jsonl", "json"]
ALLOWED = "ZEBRA_HTTP_ALLOW_PRIVATE"
_SUFFIXES: dict[str, Format] = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
_TYPES: dict[str, Format] = {
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/json": "json",
}
_PARAMETERS: dict[Paging, str] = {"page": "page", "offset": "offset", "cursor": "cursor"}


class Config(Noun):
    """`source.parameters` of this connector."""

    format: Format | None = Field(default=None, description="By default told by the URL's ending, then by the Content-Type.")
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    headers: dict[str, str] = Field(default_factory=dict)
    query: dict[str, str | int | float | bool] = Field(default_factory=dict)
    records: str = ""
    paging: Paging = "none"
    parameter: str | None = None
    following: str = ""
    first: int = 1
    max_pages: int = Field(default=10_000, ge=1)
    max_bytes: int = Field(default=Caps.max_bytes, ge=1)
    max_seconds: float = Field(default=Caps.max_seconds, gt=0)
    timeout_s: float = Field(default=Caps.timeout_s, gt=0)
    attempts: int = Field(default=Caps.attempts, ge=1, le=10)
    backoff_s: float = Field(default=Caps.backoff_s, ge=0, le=30)
    allow_unframed: bool = False
    allow_private: list[str] = Field(default_factory=list, description="host:port that may be private; the deployment must allow it too.")


class Http:
    """Rows of one URL, or of the pages that begin at it."""

    def __init__(self, source: SourceSpec, *, project: Path, secrets: Mapping[str, str]) -> None:
        if not source.url:
            raise SpecInvalid("source.url is missing: the http connector needs one.", fix="url: https://example.org/rows.csv")
        self.template, self.config = source.url, options(Config, source)
        try:
            url = httpx.URL(fill_secrets(source.url, secrets))
        except (httpx.InvalidURL, UnicodeError) as error:
            raise SpecInvalid(f"source.url {self.location()} is no URL.", fix="url: https://example.org/rows.csv") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused(f"source.url {self.location()} is neither http nor https.", fix="url: https://example.org/rows.csv")
        query = {name: fill_secrets(value, secrets) if isinstance(value, str) else value for name, value in self.config.query.items()}
        self.url = url.copy_merge_params(query) if query else url
        self.headers = {name: fill_secrets(value, secrets) for name, value in self.config.headers.items()}
        self.allowed = _allowed(self.config.allow_private, secrets.get(ALLOWED, ""))
        self.paging = self.config.paging
        if self.paging != "none" and self.config.format not in (None, "json"):
            raise SpecInvalid(f"source.parameters.paging is for json; the format is {self.config.format}.", fix="format: json")
        if self.paging == "cursor" and not self.config.following:
            raise SpecInvalid("Paging by cursor needs the path to the next one.", fix="following: meta.next_cursor")
        self._answer: Answer | None = None

    def batches(self, columns: Mapping[str, Dtype]) -> Iterator[pa.RecordBatch]:
        """See `Connector.batches`."""
        with TemporaryDirectory(prefix="zebra-http-") as folder:
            file = Path(folder) / "rows"
            try:
                kind = self._save(file)
            except OSError as error:
                raise Unavailable(f"{self.location()} cannot be kept: {error}.", fix="make room in the temporary folder") from error
            if file.stat().st_size:
                yield from self._read(file, kind, columns)

    def revision(self) -> str | None:
        """ETag or Last-Modified of what was read, else of what HEAD tells now; None for pages, and while the server is away."""
        if self.paging != "none":
            return None
        if self._answer is None:
            try:
                with self._session(attempts=1) as session:
                    self._answer = session.head(self.url)
            except Unavailable:
                return None
        return self._answer.revision() if self._answer else None

    def location(self) -> str:
        """The URL as the recipe writes it, its user hidden."""
        return re.sub(r"//[^/?#]*@", "//***@", self.template)

    def _session(self, attempts: int | None = None) -> Session:
        c = self.config
        caps = Caps(c.max_bytes, c.max_seconds, c.timeout_s, attempts or c.attempts, c.backoff_s)
        return Session(self.location(), self.url, self.headers, self.allowed, caps)

    def _save(self, file: Path) -> Format:
        """Write the source's rows to ``file`` and say as what; JSON becomes JSON lines."""
        with self._session() as session, file.open("w+b") as out:
            known = self.config.format or _format(self.url)
            if self.paging == "none" and known != "json":
                self._answer = session.save(self.url, out, framed=not self.config.allow_unframed)
                kind = known or _TYPES.get(self._answer.headers.get("content-type", "").split(";")[0].strip().lower())
                if kind is None:
                    raise SpecInvalid(f"{self.location()}: nothing tells the format.", fix="source.parameters.format: csv")
                if kind != "json":
                    return kind
                out.seek(0)
                out.truncate()
            pages = self._pages()
            pages.save(session, self._first(), out, file.with_name("page"))
            self._answer = pages.answer
        return "jsonl"

    def _pages(self) -> Pages:
        c = self.config
        parameter = c.parameter or _PARAMETERS.get(self.paging, "")
        return Pages(self.paging, records=c.records, parameter=parameter, following=c.following, first=c.first, most=c.max_pages)

    def _first(self) -> httpx.URL:
        start = {"page": self.config.first, "offset": 0}.get(self.paging)
        return self.url if start is None else self.url.copy_set_param(self.config.parameter or self.paging, start)

    def _read(self, file: Path, kind: Format, columns: Mapping[str, Dtype]) -> Iterator[pa.RecordBatch]:
        where = self.location()
        try:
            if kind in ("csv", "tsv"):
                yield from _csv.read(file, columns, where, self.config.delimiter or ("\t" if kind == "tsv" else ","))
            else:
                yield from _jsonl.read(file, columns, where)
        except DataInvalid as error:  # the temporary file is gone when somebody could paste its name
            raise DataInvalid(
                error.message, fix=error.fix if str(file) not in (error.fix or "") else "mend the rows at the source"
            ) from error
        except pa.ArrowException as error:
            raise DataInvalid(f"{where} cannot be read as {kind}: {error}", fix="look at what the URL answers") from error


def _format(url: httpx.URL) -> Format | None:
    return _SUFFIXES.get(PurePosixPath(url.path.removesuffix(".gz")).suffix.lower())


def _allowed(asked: list[str], granted: str) -> frozenset[str]:
    """What the recipe asks for, if the deployment grants all of it: a recipe alone opens no door, nor does a deployment."""
    places = {place.strip().lower() for place in granted.split(",") if place.strip()}
    beyond = sorted({place.lower() for place in asked} - places)
    if beyond:
        raise Refused(
            f"source.parameters.allow_private names {beyond[0]}, which this deployment does not allow.",
            fix=f"add {ALLOWED}={','.join(sorted(places | set(beyond)))} to .env",
        )
    return frozenset(place.lower() for place in asked)


KIND = Http
