"""Files: CSV, TSV, JSON lines, Parquet and Arrow, here or in a bucket, one or many by a glob; text also as gzip or zstd.

Relative paths start at the project root; `..` is refused. A URL (``s3://bucket/rows/*.csv.gz``, gs, abfs, sftp, any
filesystem that fsspec knows) is fetched object by object into scratch, which is removed again; web addresses are the
http connector's. Files of a glob are read in name order, as one table; hidden files are passed over, because that is
where writers keep what is not finished. Whatever changes while it is read fails the whole read.
"""

import csv
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.contracts.noun import Noun
from zebra_assets.datasets.connector import options
from zebra_assets.datasets.connectors._local import Local
from zebra_assets.datasets.connectors._place import Entry, Place
from zebra_assets.datasets.connectors._remote import Remote, scheme_of
from zebra_assets.datasets.connectors._signature import refuse_other
from zebra_assets.datasets.connectors._unpack import PACKED, Caps, unpack
from zebra_assets.errors import DataInvalid, Refused, SpecInvalid, Unavailable, ZebraError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
_Hashing = tuple[list[Entry], "Future[str | None]"]  # the files that are read, and their revision
Format = Literal["csv", "tsv", "jsonl", "parquet", "arrow"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
TEXT = frozenset({"csv", "tsv", "jsonl"})
FIRST_LINE = 1 << 20


class Config(Noun):
    """`source.parameters` of this connector."""

    format: Format | None = Field(default=None, description="By default told by the name's ending.")
    delimiter: str | None = None
    max_bytes: int = Field(default=256 << 30, ge=1, description="Bytes fetched, unpacked and decoded, each over all files.")
    max_ratio: int = Field(default=200, ge=1, description="Most bytes that one byte of a file may become, above 32 MiB.")
    max_columns: int = Field(default=5000, ge=1, description="Most columns that a file may have.")
    anonymous: bool = Field(default=False, description="Read a public bucket without credentials.")


class Files:
    """Rows of the files that `source.path` names."""

    def __init__(self, source: SourceSpec, *, project: Path, secrets: Mapping[str, str]) -> None:
        if not source.path:
            raise SpecInvalid("source.path is missing: the files connector needs a file or a glob.", fix="path: data/*.csv")
        if ".." in PurePosixPath(source.path).parts or "\x00" in source.path:
            raise Refused(f"source.path {source.path!r} contains '..'.", fix="use a path below the project, or an absolute one")
        self.config = c = options(Config, source)
        if c.delimiter is not None and len(c.delimiter) != 1:
            raise SpecInvalid(f"source.parameters.delimiter {c.delimiter!r} is not one character.", fix='delimiter: ";"')
        remote = scheme_of(source.path) is not None
        self._place: Place = Remote(source.path, secrets, anonymous=c.anonymous) if remote else Local(source.path, project.resolve())
        self._revision: str | None = None
        self._hashing: _Hashing | None = None

    def batches(self, columns: Mapping[str, Dtype]) -> Iterator["pa.RecordBatch"]:
        """See `Connector.batches`."""
        c = self.config
        fetched, made = (Caps(c.max_bytes, c.max_bytes, c.max_ratio, c.max_columns) for _ in range(2))
        with self._hashed() as (entries, revision):
            for entry in entries:
                with TemporaryDirectory(prefix="zebra-files-") as scratch:
                    file = self._place.fetch(entry, Path(scratch), fetched)
                    yield from self._read(file, entry, columns, Path(scratch), made)
            told = revision.result()
            self._refuse_changes(entries)
        self._revision = told

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """See `Ahead.ahead`: what is wrong with the files is left for `batches` to say."""
        with ExitStack() as until:
            with suppress(ZebraError):
                until.enter_context(self._hashed())
            yield

    @contextmanager
    def _hashed(self) -> Iterator[_Hashing]:
        """Local bytes are hashed beside all else: 1 GB takes 0.7 s of a core that would wait while this one imports."""
        if self._hashing is not None:
            yield self._hashing
            return
        stop = threading.Event()
        with ThreadPoolExecutor(1, "revision") as pool:
            entries = self._place.entries()
            self._hashing = entries, pool.submit(self._place.revision, entries, stop)
            try:
                yield self._hashing
            finally:
                stop.set()
                self._hashing = None

    def revision(self) -> str | None:
        """Digest of the names and bytes (of objects: sizes and versions) of what was read, else of what is there now."""
        if self._revision is not None:
            return self._revision
        try:
            return self._place.revision(self._place.entries(), threading.Event())
        except Unavailable as error:
            log.warning("%s", error.message)
            return None

    def location(self) -> str:
        """The path as the recipe writes it, a URL's user hidden."""
        return self._place.where

    def _refuse_changes(self, before: list[Entry]) -> None:
        after = self._place.entries()
        if after != before:
            what = next((one.name for one, other in zip(before, after, strict=False) if one != other), self.location())
            raise DataInvalid(
                f"{what} changed while it was read; nothing was committed.", fix="run the ingest again when the writer is done"
            )

    def _read(self, file: Path, entry: Entry, columns: Mapping[str, Dtype], scratch: Path, caps: Caps) -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa  # not above: to ask for the revision of files, nothing of Arrow is needed (0.2 s)

        from zebra_assets.datasets.connectors import _columnar, _csv, _jsonl

        where = entry.name
        if entry.size == 0:
            raise DataInvalid(f"{where} is empty: 0 bytes.", fix="fill the file, or remove it")
        kind = self.config.format or _format(entry.name, where)
        try:
            if packing := PACKED.get(file.suffix.lower()):
                file = unpack(file, packing, scratch / f"{file.stem}.unpacked", caps, where)
            if kind in TEXT:
                refuse_other(file, kind, where)
            if kind in ("csv", "tsv"):
                delimiter = self.config.delimiter or ("\t" if kind == "tsv" else ",")
                _refuse_wide(file, delimiter, where, caps)
                yield from _csv.read(file, columns, where, delimiter)
            elif kind == "jsonl":
                yield from _jsonl.read(file, columns, where, caps.columns)
            else:
                yield from _columnar.read(file, columns, where, kind, caps)
        except (pa.ArrowException, OSError, EOFError) as error:  # ArrowInvalid is no OSError, a torn gzip stream is
            said = str(error).split(". Detail:")[0]
            fix = "look at what was written there" if file.is_relative_to(scratch) else f"check the file: head -c 300 {file}"
            raise DataInvalid(f"{where} cannot be read as {kind}: {said}", fix=fix) from error
        except DataInvalid as error:
            if file.is_relative_to(scratch) and str(file) in (error.fix or ""):  # gone when somebody could paste its name
                raise DataInvalid(error.message, fix="mend the rows at the source") from error
            raise


def _format(name: str, where: str) -> Format:
    suffixes = [s.lower() for s in PurePosixPath(name).suffixes]
    suffix = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in PACKED else suffixes[-1] if suffixes else ""
    if suffix not in SUFFIXES:
        raise SpecInvalid(
            f"{where}: the format of '{suffix or PurePosixPath(name).name}' is not known. Known: {', '.join(SUFFIXES)}.",
            fix="say it: source: {parameters: {format: csv}}",
        )
    return SUFFIXES[suffix]


def _refuse_wide(file: Path, delimiter: str, where: str, caps: Caps) -> None:
    """Arrow takes 0.1 ms per column and block, and a header without an end would be read to its end."""
    with file.open("rb") as source:
        head = source.read(FIRST_LINE)
    if len(head) == FIRST_LINE and b"\n" not in head and b"\r" not in head:
        raise DataInvalid(f"{where}: the header line is longer than 1 MiB.", fix="write the column names into the first line")
    try:
        names = next(csv.reader([re.split("[\r\n]", head.decode("utf-8", "replace"), maxsplit=1)[0]], delimiter=delimiter), [])
    except csv.Error as error:
        raise DataInvalid(f"{where}: the header line cannot be read: {error}.", fix="write the column names into the first line") from error
    caps.width(len(names), where)


KIND = Files
