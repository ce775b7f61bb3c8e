"""Paged JSON: which URL comes after a page, and a page's records as JSON lines, which `_jsonl` then reads like any file.

A page must be whole JSON with a list of objects where the recipe says; an endless or repeating sequence is an error, not
a dataset. Called by `http`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import httpx

from zebra_assets.contracts.digest import sha256
from zebra_assets.datasets.connectors._download import Answer, Session, join
from zebra_assets.errors import DataInvalid

Paging = Literal["none", "page", "offset", "cursor", "link"]
MAX_PAGE_BYTES = 32 << 20


class Pages:
    """The pages of one source, walked once.

    Args:
        records: dotted path to the list of records; empty where the page itself is the list.
        parameter: the query parameter that page number, offset or cursor go into.
        following: dotted path to the next cursor, or for `link` to the next URL; without it `link` reads the Link header.
        first: number of the first page.
    """

    def __init__(self, paging: Paging, *, records: str, parameter: str, following: str, first: int, most: int) -> None:
        self.paging, self.records, self.parameter, self.following = paging, records, parameter, following
        self.first, self.most = first, most
        self.answer: Answer | None = None  # the last page's

    def save(self, session: Session, url: httpx.URL, out: BinaryIO, scratch: Path) -> int:
        """Write all pages' records to ``out``, one JSON object per line, and return how many.

        Raises what `Session.save` raises, and `DataInvalid` for what is not a page of records.
        """
        where, rows, seen = session.where, 0, set[str]()
        for number in range(self.most):
            with scratch.open("w+b") as file:
                answer = self.answer = session.save(url, file, framed=False)
            body = parse(scratch, f"{where}, page {number + 1}")
            page = records_of(body, self.records, f"{where}, page {number + 1}")
            for line in _lines(page, f"{where}, page {number + 1}"):
                out.write(line)
            rows += len(page)
            after = self._after(url, answer, body, page, number, rows, where)
            # A counted page shows by its content that the server ignores the count; others by the way they point.
            mark = sha256(scratch.read_bytes()) if self.paging in ("page", "offset") else str(after)
            if after is None:
                return rows
            if mark in seen or after == url:
                raise DataInvalid(
                    f"{where} gives page {number + 1} again and again.", fix="correct `paging` and `parameter` in source.parameters"
                )
            seen.add(mark)
            url = after
        raise DataInvalid(f"{where} has more than {self.most:,} pages.", fix="raise source.parameters.max_pages, or ask for larger pages")

    def _after(self, url: httpx.URL, answer: Answer, body: Any, page: list[Any], number: int, rows: int, where: str) -> httpx.URL | None:
        if self.paging in ("page", "offset"):
            at = self.first + number + 1 if self.paging == "page" else rows
            return url.copy_set_param(self.parameter, at) if page else None
        if self.paging == "cursor":
            cursor = dig(body, self.following)
            return url.copy_set_param(self.parameter, str(cursor)) if cursor not in (None, "", False) else None
        if self.paging == "link":
            target = dig(body, self.following) if self.following else answer.links.get("next", {}).get("url")
            return join(answer.url, str(target), where) if target else None
        return None


def parse(file: Path, where: str) -> Any:
    """A page's JSON.

    Raises:
        DataInvalid: not JSON, nested too deep, or beyond 32 MiB: parsed, it would take ten times that.
    """
    if file.stat().st_size > MAX_PAGE_BYTES:
        raise DataInvalid(f"{where} is larger than {MAX_PAGE_BYTES:,} bytes.", fix="ask for smaller pages, or for JSON lines")
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataInvalid(f"{where} is not JSON: {error}.", fix="correct source.url, or set source.parameters.format") from error


def dig(body: Any, path: str) -> Any:
    """What lies at a dotted path of objects; None where it ends."""
    for step in path.split(".") if path else []:
        body = body.get(step) if isinstance(body, dict) else None
    return body


def records_of(body: Any, path: str, where: str) -> list[Any]:
    """The list at ``path``; `DataInvalid` when there is none, with the names that stand there."""
    found = dig(body, path)
    if not isinstance(found, list):
        has = f" it has {', '.join(map(repr, list(body)[:8]))}" if isinstance(body, dict) else f" it is {type(body).__name__}"
        raise DataInvalid(f"{where}: no list of records at {path or 'the top'!r};{has}.", fix="source.parameters.records: data.items")
    return found


def _lines(records: list[Any], where: str) -> Iterator[bytes]:
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise DataInvalid(
                f"{where}: record {number} is {type(record).__name__}, not an object.", fix="correct source.parameters.records"
            )
        yield json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
