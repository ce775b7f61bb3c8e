"""Files: CSV, TSV, JSON lines, Parquet and Arrow, also gzipped text, one or many by a glob.

Relative paths start at the project root; `..` is refused. A glob's files are read in name order, as one table; hidden
files are passed over, because that is where writers keep what is not finished.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

import pyarrow as pa

from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.contracts.digest import digest_of, file_digest
from zebra_assets.contracts.noun import Noun
from zebra_assets.datasets.connector import options
from zebra_assets.datasets.connectors import _columnar, _csv, _jsonl
from zebra_assets.errors import DataInvalid, NotFound, Refused, SpecInvalid

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


class Config(Noun):
    """`source.parameters` of this connector."""

    format: Format | None = None
    delimiter: str | None = None


class Files:
    """Rows of the files that `source.path` names."""

    def __init__(self, source: SourceSpec, *, project: Path, secrets: Mapping[str, str]) -> None:
        if not source.path:
            raise SpecInvalid("source.path is missing: the files connector needs a file or a glob.", fix="path: data/*.csv")
        if ".." in Path(source.path).parts or "\x00" in source.path:
            raise Refused(f"source.path {source.path!r} contains '..'.", fix="use a path below the project, or an absolute one")
        self.path, self.project = source.path, project.resolve()
        self.config = options(Config, source)
        if self.config.delimiter is not None and len(self.config.delimiter) != 1:
            raise SpecInvalid(f"source.parameters.delimiter {self.config.delimiter!r} is not one character.", fix='delimiter: ";"')
        self._revision: str | None = None

    def batches(self, columns: Mapping[str, Dtype]) -> Iterator[pa.RecordBatch]:
        """See `Connector.batches`. A file that changes while it is read fails the whole read."""
        files = self.files()
        before = [_stamp(f) for f in files]
        for file in files:
            yield from self._read(file, columns)
        self._revision = self._digest(files)
        changed = [self._name(f) for f, stamp in zip(files, before, strict=True) if _stamp(f) != stamp]
        if changed or self.files() != files:
            what = changed[0] if changed else self.location()
            raise DataInvalid(
                f"{what} changed while it was read; nothing was committed.", fix="run the ingest again when the writer is done"
            )

    def files(self) -> list[Path]:
        """The files that the path names now, in name order.

        Raises:
            NotFound: there is none.
            Refused: a relative path leads out of the project through a symlink.
        """
        given = Path(self.path)
        if given.is_absolute():
            found = sorted(Path(given.anchor).glob(str(given.relative_to(given.anchor))))
        else:
            found = sorted(self.project.glob(self.path))
            for path in found:
                if not path.resolve().is_relative_to(self.project):
                    raise Refused(f"{self._name(path)} leads out of the project.", fix="write the real, absolute path into source.path")
        found = [p for p in found if p.is_file() and not p.name.startswith(".")]
        if not found:
            raise NotFound(f"No file matches {self.location()}.", fix=f"put the data at {self.location()}, or correct source.path")
        return found

    def revision(self) -> str | None:
        """Digest of the names and bytes of the files: those that were read, else those that are there now."""
        return self._revision or self._digest(self.files())

    def location(self) -> str:
        """The path as the recipe writes it."""
        return self.path

    def _read(self, file: Path, columns: Mapping[str, Dtype]) -> Iterator[pa.RecordBatch]:
        where = self._name(file)
        if file.stat().st_size == 0:
            raise DataInvalid(f"{where} is empty: 0 bytes.", fix="fill the file, or remove it")
        kind = self.config.format or _format(file, where)
        try:
            if kind in ("csv", "tsv"):
                yield from _csv.read(file, columns, where, self.config.delimiter or ("\t" if kind == "tsv" else ","))
            elif kind == "jsonl":
                yield from _jsonl.read(file, columns, where)
            else:
                yield from _columnar.read(file, columns, where, kind)
        except (pa.ArrowException, OSError, EOFError) as error:  # ArrowInvalid is no OSError, a torn gzip stream is
            said = str(error).split(". Detail:")[0]
            raise DataInvalid(f"{where} cannot be read as {kind}: {said}", fix=f"check the file: head -c 300 {file}") from error

    def _digest(self, files: list[Path]) -> str:
        return digest_of([[self._name(f), _file_digest(f, _stamp(f))] for f in files])

    def _name(self, file: Path) -> str:
        return str(file.relative_to(self.project)) if file.is_relative_to(self.project) else str(file)


def _format(file: Path, where: str) -> Format:
    suffixes = [s.lower() for s in file.suffixes]
    suffix = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else suffixes[-1] if suffixes else ""
    if suffix not in SUFFIXES:
        raise SpecInvalid(
            f"{where}: the format of '{suffix or file.name}' is not known. Known: {', '.join(SUFFIXES)}.",
            fix="say it: source: {parameters: {format: csv}}",
        )
    return SUFFIXES[suffix]


@lru_cache(maxsize=4096)
def _file_digest(file: Path, stamp: tuple[int, int, int]) -> str:
    """Hashed again only when size, time or inode changed: the source sensor asks every few seconds."""
    return file_digest(file)


def _stamp(file: Path) -> tuple[int, int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


KIND = Files
