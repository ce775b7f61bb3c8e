"""An Iceberg table at one snapshot: pinned by id, time, branch or tag, else the newest, settled once and recorded.

`source.path` is ``namespace.table`` in a catalog, or a table's own ``….metadata.json`` without one. `source.url` is the
catalog's URI; a catalog that pyiceberg knows by name (its file or PYICEBERG_CATALOG__<NAME>__URI) needs the name only.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pydantic import Field, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.contracts.events import Moment
from zebra_assets.contracts.names import safe_join
from zebra_assets.contracts.noun import Noun
from zebra_assets.datasets.connector import fill_secrets, match_columns, options
from zebra_assets.datasets.connectors._lakehouse import library, place, s3_options
from zebra_assets.errors import DataInvalid, NotFound, Refused, SpecInvalid, Unavailable

_S3 = {
    "aws_access_key_id": "s3.access-key-id",
    "aws_secret_access_key": "s3.secret-access-key",
    "aws_session_token": "s3.session-token",
    "endpoint_url": "s3.endpoint",
    "region_name": "s3.region",
}
PATIENCE = {"s3.connect-timeout": "5", "s3.request-timeout": "60"}
_ADDRESS = re.compile(r"uri|url|endpoint|proxy|host", re.IGNORECASE)
_SECRET = re.compile(r"\$\{\w+\}")


class Config(Noun):
    """`source.parameters` of this connector."""

    snapshot: int | None = Field(default=None, description="The snapshot's id; default the newest.")
    as_of: Moment | None = Field(default=None, description="Instead: the snapshot that was the newest at this time.")
    ref: str | None = Field(default=None, description="Instead: the snapshot that a branch or tag names now.")
    catalog: str = Field(default="default", description="The catalog's name.")
    properties: dict[str, str] = Field(default_factory=dict, description="pyiceberg's catalog properties; ${NAME} is a secret.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if sum(x is not None for x in (self.snapshot, self.as_of, self.ref)) > 1:
            raise ValueError("`snapshot`, `as_of` and `ref` all name a snapshot")
        return self


class Iceberg:
    """Rows of one snapshot of an Iceberg table."""

    def __init__(self, source: SourceSpec, *, project: Path, secrets: Mapping[str, str]) -> None:
        if not source.path:
            raise SpecInvalid("source.path is missing: the iceberg connector needs a table.", fix="path: shop.people")
        self.path, self.config = source.path, options(Config, source)
        self.metadata = place(source.path, project, secrets) if source.path.endswith(".metadata.json") else None
        if self.metadata is None and "." not in source.path:
            raise SpecInvalid(f"source.path {source.path!r} names no namespace.", fix=f"path: default.{source.path}")
        self.properties = PATIENCE | {_S3[name]: value for name, value in s3_options(secrets).items()}
        self.properties |= {name: fill_secrets(text, secrets) for name, text in _harmless(self.config.properties).items()}
        if source.url:
            self.properties["uri"] = _catalog(source.url, project, secrets)
        self._settled: tuple[Any, Any] | None = None

    def batches(self, columns: Mapping[str, Dtype]) -> Iterator[pa.RecordBatch]:
        """See `Connector.batches`. The snapshot's own columns; only the declared ones are read."""
        table, snapshot = self._at()
        if snapshot is None:
            return
        with self._explained():
            names = [field.name for field in table.scan(snapshot_id=snapshot.snapshot_id).projection().fields]
            wanted = tuple(match_columns(names, columns, self.location()))
            yield from table.scan(selected_fields=wanted, snapshot_id=snapshot.snapshot_id).to_arrow_batch_reader()

    def revision(self) -> str | None:
        """``<table uuid>@<snapshot id>``; None for a table that nothing was ever written to."""
        table, snapshot = self._at()
        return None if snapshot is None else f"{table.metadata.table_uuid}@{snapshot.snapshot_id}"

    def location(self) -> str:
        """The table and its catalog's name, as the recipe writes them."""
        return self.path if self.metadata else f"{self.config.catalog}:{self.path}"

    def _at(self) -> tuple[Any, Any]:
        """The table, and the snapshot that everything else is about; None where it has none."""
        if self._settled is None:
            library("pyiceberg.io.pyarrow", "iceberg")
            with self._explained():
                table = self._table()
                self._settled = table, self._snapshot(table)
        return self._settled

    def _table(self) -> Any:
        if self.metadata is not None:
            return library("pyiceberg.table", "iceberg").StaticTable.from_metadata(self.metadata, self.properties)
        # Reading makes no tables in somebody's catalog.
        properties = {"init_catalog_tables": "false", **self.properties}
        try:
            catalog = library("pyiceberg.catalog", "iceberg").load_catalog(self.config.catalog, **properties)
        except ValueError as error:
            raise SpecInvalid(
                f"Catalog '{self.config.catalog}': {error}.", fix="url: sqlite:///data/catalog.db, or ${CATALOG_URL}"
            ) from error
        return catalog.load_table(self.path)

    def _snapshot(self, table: Any) -> Any:
        c = self.config
        if c.snapshot is not None:
            found = table.snapshot_by_id(c.snapshot)
        elif c.as_of is not None:
            found = table.snapshot_as_of_timestamp(int(c.as_of.timestamp() * 1000))
        elif c.ref is not None:
            found = table.snapshot_by_name(c.ref)
        else:
            return table.current_snapshot()
        if found is None:
            raise self._gone(table)
        return found

    def _gone(self, table: Any) -> NotFound:
        c = self.config
        wanted = (
            f"snapshot {c.snapshot}" if c.snapshot is not None else f"branch or tag '{c.ref}'" if c.ref else f"snapshot as of {c.as_of}"
        )
        left = sorted(table.snapshots(), key=lambda s: s.timestamp_ms)[-5:]
        known = ", ".join(f"{s.snapshot_id} of {datetime.fromtimestamp(s.timestamp_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}" for s in left)
        refs = ", ".join(sorted(table.refs()))
        return NotFound(
            f"{self.location()} has no {wanted}: expired, or never there. Its newest are {known or 'none'}; names: {refs or 'none'}.",
            fix=f"snapshot: {left[-1].snapshot_id}" if left else "write to the table first",
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """pyiceberg's errors, and those of the catalogs and filesystems below it, in our words."""
        errors, where = library("pyiceberg.exceptions", "iceberg"), self.location()
        try:
            yield
        except (errors.NoSuchTableError, errors.NoSuchNamespaceError) as error:
            raise NotFound(f"There is no Iceberg table {where}.", fix="correct source.path in dataset.yaml") from error
        except FileNotFoundError as error:
            raise NotFound(
                f"A file of {where} is gone: {_said(error)}", fix="name a newer snapshot, or correct source.path in dataset.yaml"
            ) from error
        except (OSError, SQLAlchemyError, errors.RESTError) as error:
            raise Unavailable(
                f"{where} cannot be reached: {_said(error)}", fix="check the catalog's URL, the keys and the servers"
            ) from error
        except pa.ArrowException as error:
            raise DataInvalid(f"{where} cannot be read: {_said(error)}", fix="check the table with its own tools") from error


def _harmless(properties: Mapping[str, str]) -> Mapping[str, str]:
    """The recipe's properties, if none names code to run, nor an address other than by a secret.

    Raises:
        Refused: one does.
    """
    for name, text in properties.items():
        if "impl" in name:
            raise Refused(f"source.parameters.properties.{name} names code to run.", fix="leave it out, or set it in ~/.pyiceberg.yaml")
        if (_ADDRESS.search(name) or "://" in text) and name != "warehouse" and not _SECRET.fullmatch(text):
            raise Refused(
                f"source.parameters.properties.{name} is an address; those stand in the deployment's .env, not in a recipe.",
                fix=f"write {name}: ${{LAKE_ADDRESS}} here and LAKE_ADDRESS={text} in .env",
            )
    return properties


def _catalog(url: str, project: Path, secrets: Mapping[str, str]) -> str:
    """The catalog's URI. Databases by any URL, as for the sql connector; a web address only by a secret."""
    filled = fill_secrets(url, secrets)
    scheme = filled.partition(":")[0].partition("+")[0].lower()
    if scheme not in ("sqlite", "postgresql"):
        if not _SECRET.fullmatch(url):
            raise Refused(
                f"source.url: a catalog at {scheme}:// is an address; those stand in the deployment's .env, not in a recipe.",
                fix="write url: ${CATALOG_URL} here and CATALOG_URL=... in .env",
            )
        return filled
    try:
        parsed = make_url(filled)
    except ArgumentError as error:
        raise SpecInvalid("source.url is no database URL.", fix="url: sqlite:///data/catalog.db") from error
    if scheme == "sqlite":
        file = Path(parsed.database or "")
        file = file if file.is_absolute() else safe_join(project, str(file))
        if not file.is_file():  # the library would make one
            raise NotFound(f"There is no catalog {file}.", fix="correct source.url in dataset.yaml")
        parsed = parsed.set(database=str(file))
    return parsed.render_as_string(hide_password=False)


def _said(error: Exception) -> str:
    words = " ".join(str(getattr(error, "orig", None) or error).split())
    return words if len(words) <= 300 else words[:297] + "..."


KIND = Iceberg
