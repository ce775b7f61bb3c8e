"""A Delta table at one version: pinned by number or by time, else the newest, settled once and recorded.

`source.path` is a local path or a bucket URL. Rows come in no order that would repeat: give the recipe a key.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pydantic import Field, model_validator

from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.contracts.events import Moment
from zebra_assets.contracts.noun import Noun
from zebra_assets.datasets.connector import match_columns, options
from zebra_assets.datasets.connectors._lakehouse import library, place, s3_options
from zebra_assets.errors import DataInvalid, NotFound, SpecInvalid, Unavailable

# object_store's own defaults wait three minutes for a server that is away.
PATIENCE = {"connect_timeout": "5s", "timeout": "60s", "max_retries": "3", "retry_timeout": "30s"}
_S3 = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "endpoint_url": "AWS_ENDPOINT_URL",
    "region_name": "AWS_REGION",
}


class Config(Noun):
    """`source.parameters` of this connector."""

    version: int | None = Field(default=None, ge=0, description="The table's version; default the newest.")
    as_of: Moment | None = Field(default=None, description="Instead: the version that was the newest at this time.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.version is not None and self.as_of is not None:
            raise ValueError("`version` and `as_of` both name a version")
        return self


class Delta:
    """Rows of one version of a Delta table."""

    def __init__(self, source: SourceSpec, *, project: Path, secrets: Mapping[str, str]) -> None:
        if not source.path:
            raise SpecInvalid("source.path is missing: the delta connector needs the table's folder.", fix="path: s3://lake/people")
        self.path, self.config = source.path, options(Config, source)
        self.place = place(source.path, project, secrets)
        self._storage = _storage(self.place, s3_options(secrets))
        self._table: Any = None

    def batches(self, columns: Mapping[str, Dtype]) -> Iterator[pa.RecordBatch]:
        """See `Connector.batches`. Only the declared columns are read; column mapping and deletion vectors are honoured."""
        table = self._settled()
        with self._explained(table.version()):
            wanted = match_columns([field.name for field in table.schema().fields], columns, self.location())
            yield from pa.RecordBatchReader.from_stream(table.scan(columns=wanted))

    def revision(self) -> str | None:
        """``<table id>@<version>``."""
        table = self._settled()
        return f"{table.metadata().id}@{table.version()}"

    def location(self) -> str:
        """The path as the recipe writes it."""
        return self.path

    def _settled(self) -> Any:
        """The table at the version that everything else is about."""
        if self._table is None:
            delta = library("deltalake", "delta")
            with self._explained(None):
                newest = delta.DeltaTable(self.place, storage_options=self._storage)
                wanted = self.config.version if self.config.as_of is None else self._version_at(newest, self.config.as_of)
            if wanted is not None and wanted != newest.version():
                with self._explained(wanted, newest.version()):
                    newest.load_as_version(wanted)
            self._table = newest
        return self._table

    def _version_at(self, table: Any, moment: datetime) -> int:
        """By the log's own times: the library's look-up goes by those of files, and answers version 0 for any earlier time."""
        commits = [(c["version"], c["timestamp"]) for c in table.history() if c.get("timestamp") is not None]
        found = max((version for version, ms in commits if ms <= moment.timestamp() * 1000), default=None)
        if found is None:
            raise NotFound(
                f"{self.location()} has no version of {moment:%Y-%m-%dT%H:%M:%SZ} or before; its log begins later.",
                fix="set source.parameters.as_of to a later time, or leave it out for the newest version",
            )
        return int(found)

    @contextmanager
    def _explained(self, version: int | None, newest: int | None = None) -> Iterator[None]:
        """The library's errors in our words. While reading, they come as Arrow's, whatever happened; their text tells."""
        errors = library("deltalake.exceptions", "delta")
        where = self.location() if version is None else f"{self.location()} at version {version}"
        try:
            yield
        except errors.TableNotFoundError as error:
            if newest is None:
                raise NotFound(f"There is no Delta table at {where}.", fix="correct source.path in dataset.yaml") from error
            raise self._gone(where, newest) from error
        except errors.DeltaError as error:
            if newest is not None:
                raise self._gone(where, newest) from error
            raise DataInvalid(f"{where} cannot be read: {_said(error)}", fix="check the table's _delta_log") from error
        except (pa.ArrowException, OSError) as error:
            said, whole = _said(error), str(error)
            if "not found" in whole or "No such file" in whole:
                raise NotFound(
                    f"A file of {where} is gone; the table was vacuumed. {said}",
                    fix="read a newer version, and keep files longer: delta.deletedFileRetentionDuration",
                ) from error
            if isinstance(error, OSError) or "Generic " in whole:
                raise Unavailable(
                    f"{where} cannot be reached: {said}", fix="check the keys, ZEBRA_S3_ENDPOINT_URL and the server"
                ) from error
            raise DataInvalid(f"{where} cannot be read: {said}", fix="check the table with its own tools") from error

    def _gone(self, where: str, newest: int) -> NotFound:
        return NotFound(
            f"{where} cannot be loaded: the newest version is {newest}, and old ones go when the log is cleaned up.",
            fix=f"version: {newest}, or leave it out for the newest",
        )


def _storage(place: str, s3: Mapping[str, str]) -> dict[str, str] | None:
    if "://" not in place:
        return None
    said = {_S3[name]: value for name, value in s3.items()} if place.startswith("s3") else {}
    plain = {"AWS_ALLOW_HTTP": "true"} if said.get("AWS_ENDPOINT_URL", "").startswith("http:") else {}
    return PATIENCE | said | plain


def _said(error: Exception) -> str:
    """The library's message on one line, without its colours and arrows."""
    words = " ".join(str(error).replace("\x1b[31m↳\x1b[0m", "").split())
    return words if len(words) <= 300 else words[:297] + "..."


KIND = Delta
