"""`EventStore` on the state database: typed facts from production, each stored exactly once.

An event is stored when `append` returns. Sending it again changes nothing, whichever process sends it: the database
holds each `event_id` once.
"""

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, func, select

from zebra_assets.adapters.state import engine, insert_or, reading, writing
from zebra_assets.adapters.tables import events
from zebra_assets.contracts.events import Drawn, Event, LabelEvent, Outcome, PredictionEvent

_IN = 500  # names in one statement; SQLite takes 32,766, older ones 999


class SqlEvents:
    """The events of one state database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def append(self, batch: list[Event]) -> int:
        """Store events durably, all or none; how many were new (the others had a known event_id)."""
        if not batch:
            return 0
        opened = engine(self.url)
        statement = insert_or(opened, events).on_conflict_do_nothing(index_elements=["event_id"])
        with writing(opened) as connection:
            new: int = connection.execute(statement, [_row(e) for e in batch]).rowcount
        return new

    def predictions(self, model: str, *, version: str | None = None, limit: int = 5000) -> list[PredictionEvent]:
        """The newest ``limit`` predictions by arrival, oldest first."""
        query = _matching(select(events.c.body), model, "prediction_event", version).order_by(events.c.seq.desc()).limit(limit)
        with reading(engine(self.url)) as connection:
            bodies = connection.execute(query).scalars().all()
        return [PredictionEvent.model_validate_json(body) for body in reversed(bodies)]

    def known(self, model: str, event_ids: Collection[str]) -> set[str]:
        """Which of them are predictions of the model."""
        wanted, found = list(dict.fromkeys(event_ids)), set[str]()
        query = _matching(select(events.c.event_id), model, "prediction_event", None)
        with reading(engine(self.url)) as connection:
            for start in range(0, len(wanted), _IN):
                some = query.where(events.c.event_id.in_(wanted[start : start + _IN]))
                found.update(connection.execute(some).scalars())
        return found

    def requested(self, model: str, request_ids: Collection[str]) -> dict[str, list[str]]:
        """The event ids of each request's predictions, in order of arrival; reads the model's predictions through."""
        wanted, found = frozenset(request_ids), dict[str, list[str]]()
        with reading(engine(self.url)) as connection:
            query = _matching(select(events.c.body), model, "prediction_event", None).order_by(events.c.seq)
            for body in connection.execution_options(yield_per=1000).execute(query).scalars():
                said = json.loads(body)
                if said["request_id"] in wanted:
                    found.setdefault(said["request_id"], []).append(said["event_id"])
        return found

    def labels(self, model: str, event_ids: Collection[str]) -> dict[str, LabelEvent]:
        """The label that holds for each of these predictions; reads the model's labels through."""
        wanted, found = frozenset(event_ids), dict[str, LabelEvent]()
        with reading(engine(self.url)) as connection:
            query = _matching(select(events.c.body), model, "label_event", None).order_by(events.c.seq)
            for body in connection.execution_options(yield_per=1000).execute(query).scalars():
                label = LabelEvent.model_validate_json(body)
                of = label.prediction_event_id
                if of in wanted and (of not in found or found[of].ts <= label.ts):
                    found[of] = label
        return found

    def outcomes(self, model: str) -> list[Outcome]:
        """The model's labelled predictions that a route had drawn, in the order in which their first labels arrived."""
        held: dict[str, LabelEvent] = {}
        with reading(engine(self.url)) as connection:
            query = _matching(select(events.c.body), model, "label_event", None).order_by(events.c.seq)
            for body in connection.execution_options(yield_per=1000).execute(query).scalars():
                label = LabelEvent.model_validate_json(body)
                before = held.get(label.prediction_event_id)
                if before is None or before.ts <= label.ts:
                    held[label.prediction_event_id] = label  # a correction keeps the first label's place
            wanted, found = list(held), dict[str, Outcome]()
            query = _matching(select(events.c.event_id, events.c.body), model, "prediction_event", None)
            for start in range(0, len(wanted), _IN):
                for name, body in connection.execute(query.where(events.c.event_id.in_(wanted[start : start + _IN]))):
                    said = json.loads(body)
                    if said.get("drawn"):
                        drawn = Drawn.model_validate(said["drawn"])
                        found[name] = Outcome(said["version"], drawn, said["prediction"], said["score"], held[name].label)
        return [found[name] for name in wanted if name in found]

    def count(self, model: str, type: str = "prediction_event", *, version: str | None = None) -> int:
        """How many events of that type the model, or one version of it, has."""
        with reading(engine(self.url)) as connection:
            found: int = connection.execute(_matching(select(func.count()).select_from(events), model, type, version)).scalar_one()
        return found


def _row(event: Event) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "type": event.type,
        "model": event.model,
        "version": getattr(event, "version", None),
        "body": event.model_dump_json(),
    }


def _matching(query: Select[Any], model: str, type: str, version: str | None) -> Select[Any]:
    query = query.where(events.c.model == model, events.c.type == type)
    return query if version is None else query.where(events.c.version == version)
