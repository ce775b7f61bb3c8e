"""Events: what production predicted in a window, joined with the labels that have arrived, as rows to train on.

A row is a prediction: its features by name, and beside them `event_id`, `request_id`, `predicted_at`, `model_version`,
`manifest_id`, `prediction`, `score` and the label. The window is over the predictions' times. A label counts when it
was known before the window's end, so that a window read again later gives what was known then; of several labels of one
prediction the latest counts. In which order events arrived makes no difference, and an event id counts once.

Reads the state database like any other source. The columns it needs of `events` are the event store's
(adapters/tables.py); the sentences in it are `contracts.events`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import sqlalchemy as sa
from pydantic import Field, model_validator

from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.events import Moment
from zebra_assets.contracts.names import Name, Version
from zebra_assets.contracts.noun import Noun
from zebra_assets.datasets.connector import fill_secrets, match_columns, options
from zebra_assets.datasets.connectors._state_database import Database, collated, said
from zebra_assets.errors import DataInvalid, NotFound

CHUNK_ROWS = 8192  # as Python objects 20 features of 65,536 rows are 200 MB
# What an event holds beside the features, by the name of its column; a feature of the same name comes first.
FACTS = {
    "event_id": "event_id",
    "request_id": "request_id",
    "predicted_at": "ts",
    "model_version": "version",
    "manifest_id": "manifest_id",
    "prediction": "prediction",
    "score": "score",
}


class Config(Noun):
    """`source.parameters` of this connector."""

    model: Name
    versions: list[Version] = Field(default_factory=list, description="Only these versions' predictions; none named: all.")
    since: Moment | None = Field(default=None, description="The window's begin, to the second; default the first prediction.")
    until: Moment | None = Field(default=None, description="The window's end, itself outside; default open, or today's midnight with days.")
    days: int | None = Field(default=None, ge=1, description="So many days before `until`; by default whole days in UTC.")
    label: str = Field(default="label", description="Name of the column that the labels become.")
    labelled: bool = Field(default=True, description="Only predictions that have a label; otherwise the label is null.")

    @model_validator(mode="after")
    def _a_window(self) -> Self:
        if self.days is not None and self.since is not None:
            raise ValueError("`days` and `since` both say when the window begins")
        if any(t is not None and t.microsecond for t in (self.since, self.until)):
            raise ValueError("`since` and `until` are whole seconds")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("`since` is not before `until`")
        return self


class Events:
    """Labelled predictions of one model in one window."""

    def __init__(self, source: SourceSpec, *, project: Path, secrets: Mapping[str, str]) -> None:
        self.config = options(Config, source)
        given = fill_secrets(source.url, secrets) if source.url else secrets.get("ZEBRA_STATE_URL")
        self.database = Database(given or f"sqlite:///{project / '.zebraops' / 'state.db'}", project)
        # Settled once: a read that crosses midnight keeps its window.
        self.since, self.until = _window(self.config)
        self._revision: str | None = None

    def batches(self, columns: Mapping[str, Dtype]) -> Iterator[pa.RecordBatch]:
        """See `Connector.batches`. In the order of event ids, in one transaction, so of one moment."""
        with self.database.reading() as connection:
            self._revision = self._counted(connection)
            if self._revision is None:
                raise self._nothing(connection)
            chunk: list[dict[str, Any]] = []
            checked = False
            for row in self._rows(connection):
                chunk.append(row)
                if len(chunk) == CHUNK_ROWS:
                    checked = checked or self._match(chunk, columns)
                    yield _batch(chunk, columns)
                    chunk = []
            if chunk:
                checked or self._match(chunk, columns)
                yield _batch(chunk, columns)

    def revision(self) -> str | None:
        """Digest of the window and of what is in it: it stays while no prediction or label of the window arrives."""
        if self._revision is None:
            with self.database.reading() as connection:
                self._revision = self._counted(connection)
        return self._revision

    def location(self) -> str:
        """The state database, its password hidden, and the model."""
        return f"{self.database.shown}#events/{self.config.model}"

    def _facts(self, connection: sa.Connection) -> tuple[sa.Select[Any], sa.Select[Any]]:
        """The window's predictions, and the labels known by its end, as queries with the same columns: `of` and what to sort by."""
        facts, model = self.database.events, self.config.model
        at = collated(connection, said(connection, facts.c.body, "ts"))
        of = said(connection, facts.c.body, "prediction_event_id")
        # 'Z' goes, because ".5Z" would stand before "Z"; seq decides between labels of one moment.
        known = collated(connection, sa.func.rtrim(at, "Z"))
        key = collated(connection, facts.c.event_id)
        rest = facts.c.seq, facts.c.body, key.label("event_id")
        labels = sa.select(collated(connection, of).label("of"), sa.literal(1).label("kind"), known.label("ts"), *rest)
        labels = labels.where(facts.c.model == model, facts.c.type == "label_event")
        predictions = sa.select(key.label("of"), sa.literal(0).label("kind"), sa.literal("").label("ts"), *rest)
        predictions = predictions.where(facts.c.model == model, facts.c.type == "prediction_event")
        if self.config.versions:
            predictions = predictions.where(facts.c.version.in_(self.config.versions))
        if self.since is not None:
            predictions = predictions.where(at >= _text(self.since))
        if self.until is not None:
            predictions, labels = predictions.where(at < _text(self.until)), labels.where(at < _text(self.until))
        if self.config.labelled:
            predictions = predictions.where(facts.c.event_id.in_(sa.select(labels.subquery().c.of)))
        return predictions, labels

    def _counted(self, connection: sa.Connection) -> str | None:
        """The revision; None where the window is empty.

        The least and greatest event ids are there because two databases may well hold as many events; ids are random.
        """
        predictions, labels = [
            connection.execute(
                sa.select(sa.func.count(), sa.func.max(each.c.seq), sa.func.min(each.c.event_id), sa.func.max(each.c.event_id))
            ).one()
            for each in (query.subquery() for query in self._facts(connection))
        ]
        if not predictions[0]:
            return None
        c = self.config
        window = [None if t is None else t.isoformat() for t in (self.since, self.until)]
        return digest_of([c.model, sorted(c.versions), window, c.labelled, *predictions, *labels])

    def _rows(self, connection: sa.Connection) -> Iterator[dict[str, Any]]:
        """A sort and no join: SQLite joins without an index where it has no statistics, 100,000 by 100,000 rows in minutes."""
        facts = sa.union_all(*self._facts(connection)).subquery()
        query = sa.select(facts.c.of, facts.c.kind, facts.c.body).order_by(facts.c.of, facts.c.kind, facts.c.ts, facts.c.seq)
        result = connection.execution_options(stream_results=True, yield_per=1000).execute(query)
        for _, group in groupby(result, key=lambda fact: fact[0]):
            (_, kind, body), *labels = group
            if kind == 0:  # else labels of a prediction outside the window
                event, truth = json.loads(body), json.loads(labels[-1].body)["label"] if labels else None
                facts_of = {name: event.get(field) for name, field in FACTS.items()}
                yield facts_of | event["features"] | {self.config.label: truth}

    def _match(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Dtype]) -> bool:
        """Refuse a recipe that wants what no prediction holds."""
        found = list(dict.fromkeys(name for row in rows for name in row))
        absent = [name for name in columns if name not in found]
        if absent:
            raise DataInvalid(
                f"{self.location()}: predictions hold no {', '.join(map(repr, absent))}; they hold {', '.join(found)}. Of a row the server "
                f"keeps the features its model reads, neither the key nor what the model names sensitive.",
                fix=f"key: [event_id], `label: {self.config.label}` in source.parameters, and features only in columns of dataset.yaml",
            )
        match_columns(found, columns, self.location())
        return True

    def _nothing(self, connection: sa.Connection) -> DataInvalid | NotFound:
        """Why there are no rows: no predictions at all, none in the window, or no labels."""
        model, events = self.config.model, self.database.events
        query = sa.select(events.c.type, sa.func.count()).where(events.c.model == model).group_by(events.c.type)
        of = {kind: count for kind, count in connection.execute(query)}  # noqa: C416 - dict() takes a result for a mapping
        predictions, labels = of.get("prediction_event", 0), of.get("label_event", 0)
        if not predictions:
            return NotFound(f"{self.location()}: no prediction was captured yet.", fix=f"mlops serve {model}, and ask it something")
        between = " ".join(f"{word} {t:%Y-%m-%dT%H:%M:%SZ}" for word, t in (("since", self.since), ("until", self.until)) if t)
        if self.config.labelled and not labels:
            return DataInvalid(f"{self.location()}: {predictions:,} predictions and no label.", fix=f"mlops label {model} labels.csv")
        return DataInvalid(
            f"{self.location()}: of {predictions:,} predictions and {labels:,} labels none fall together {between or 'yet'}".rstrip() + ".",
            fix=f"widen the window in dataset.yaml, or bring the labels: mlops label {model} labels.csv",
        )


def _window(config: Config) -> tuple[datetime | None, datetime | None]:
    if config.days is None:
        return config.since, config.until
    until = config.until or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return until - timedelta(days=config.days), until


def _text(moment: datetime) -> str:
    """As events spell moments, without the 'Z': both "…:05Z" and "…:05.1Z" stand after "…:05", as they must."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _batch(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Dtype]) -> pa.RecordBatch:
    """Declared columns; a feature that a version did not know is null."""
    return pa.RecordBatch.from_arrays([_array([row.get(name) for row in rows]) for name in columns], names=list(columns))


def _array(values: list[Any]) -> pa.Array:
    """Arrow's own idea of the type; where versions differ in it, the values travel as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values])


KIND = Events
