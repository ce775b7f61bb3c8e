"""`Records` on the state database: runs and verdicts by id, each as its own JSON."""

from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Select, func, insert, select, update

from zebra_assets.adapters.state import engine, reading, writing
from zebra_assets.adapters.tables import records
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.run import Run
from zebra_assets.contracts.verdicts import DriftReport, EvalReport, GateDecision

if TYPE_CHECKING:
    from zebra_assets.contracts.ports import Record

N = TypeVar("N", bound=Noun)
_KINDS: dict[type[Noun], str] = {Run: "run", EvalReport: "report", GateDecision: "decision", DriftReport: "drift"}
# Said again, a verdict is the newest word on its run: after a rollback an older decision may hold once more. A run keeps
# its place in the list when it ends, and a drift report its number when its page is linked, or a reader that remembers
# the last number it saw would see it twice.
_RENUMBERED = {"report", "decision"}


class SqlRecords:
    """The records of one state database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def save(self, record: "Record") -> None:
        """Insert, or replace the record of the same id."""
        kind = _KINDS[type(record)]
        mine = (records.c.kind == kind) & (records.c.id == record.id)
        values = {
            "model": record.model,
            "run_id": record.run_id if isinstance(record, EvalReport | GateDecision) else None,
            "body": record.model_dump_json(by_alias=True),
        }
        with writing(engine(self.url), turn="records") as connection:
            # Counted here and not by a sequence: under its turn, a lower number can never become visible after a higher one.
            following = (connection.execute(select(func.max(records.c.seq))).scalar() or 0) + 1
            again = values | {"seq": following} if kind in _RENUMBERED else values
            if connection.execute(update(records).where(mine).values(**again)).rowcount == 0:
                connection.execute(insert(records).values(seq=following, kind=kind, id=record.id, **values))

    def run(self, run_id: str) -> Run | None:
        return self._by_id(Run, run_id)

    def report(self, report_id: str) -> EvalReport | None:
        return self._by_id(EvalReport, report_id)

    def decision(self, decision_id: str) -> GateDecision | None:
        return self._by_id(GateDecision, decision_id)

    def decision_for(self, run_id: str) -> GateDecision | None:
        """The decision about a run that was saved last."""
        return self._about(GateDecision, run_id)

    def report_for(self, run_id: str) -> EvalReport | None:
        """The report about a run that was saved last."""
        return self._about(EvalReport, run_id)

    def runs(self, model: str | None = None, limit: int = 50) -> list[Run]:
        """Newest first."""
        query = select(records.c.seq, records.c.body).where(records.c.kind == "run").order_by(records.c.seq.desc()).limit(limit)
        return [run for _, run in self._read(Run, query if model is None else query.where(records.c.model == model))]

    def about(self, run_id: str) -> list[EvalReport | GateDecision]:
        """Every report and decision about a run, oldest first."""
        query = select(records.c.kind, records.c.body).where(records.c.run_id == run_id).order_by(records.c.seq)
        with reading(engine(self.url)) as connection:
            rows = connection.execute(query.where(records.c.kind.in_(["report", "decision"]))).all()
        return [(EvalReport if kind == "report" else GateDecision).model_validate_json(body) for kind, body in rows]

    def drift(self, report_id: str) -> DriftReport | None:
        return self._by_id(DriftReport, report_id)

    def ids(self) -> list[str]:
        """The id of every record, newest first."""
        with reading(engine(self.url)) as connection:
            return list(connection.execute(select(records.c.id).order_by(records.c.seq.desc())).scalars())

    def drifts(self, model: str, after: int = 0, limit: int = 50) -> list[tuple[int, DriftReport]]:
        """(sequence, report) pairs with sequence > ``after``, oldest first."""
        query = select(records.c.seq, records.c.body).where(records.c.kind == "drift", records.c.model == model, records.c.seq > after)
        return self._read(DriftReport, query.order_by(records.c.seq).limit(limit))

    def _by_id(self, noun: type[N], id: str) -> N | None:
        return self._one(noun, select(records.c.seq, records.c.body).where(records.c.kind == _KINDS[noun], records.c.id == id))

    def _about(self, noun: type[N], run_id: str) -> N | None:
        query = select(records.c.seq, records.c.body).where(records.c.kind == _KINDS[noun], records.c.run_id == run_id)
        return self._one(noun, query.order_by(records.c.seq.desc()).limit(1))

    def _one(self, noun: type[N], query: Select[tuple[int, str]]) -> N | None:
        found = self._read(noun, query)
        return found[0][1] if found else None

    def _read(self, noun: type[N], query: Select[tuple[int, str]]) -> list[tuple[int, N]]:
        with reading(engine(self.url)) as connection:
            rows = connection.execute(query).all()
        return [(seq, noun.model_validate_json(body)) for seq, body in rows]
