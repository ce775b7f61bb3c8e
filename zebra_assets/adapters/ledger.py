"""`Ledger` on the state database: which version an alias names, and every move that led there.

Rows are only ever added; the one thing that changes is `state`, from intent to done. Each addition and each change writes
its audit entry in the same transaction: there is no row without an entry, and none is written for a move that did not happen.
"""

from datetime import UTC
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from zebra_assets.adapters.audit_log import TURN, chain
from zebra_assets.adapters.state import engine, reading, writing
from zebra_assets.adapters.tables import ledger
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.errors import Conflict


class SqlLedger:
    """The ledger of one state database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def head(self, model: str, alias: str) -> Promotion | None:
        """The row with the highest seq: what the alias names now."""
        with reading(engine(self.url)) as connection:
            return _head(connection, model, alias)

    def append(self, promotion: Promotion) -> None:
        """Insert ``promotion`` as head, together with the audit entry `alias.promote` or `alias.rollback`.

        Raises:
            Conflict: its seq is not head + 1, or its from_version is not the head's version.
        """
        try:
            with writing(engine(self.url), turn=TURN) as connection:
                _expect(promotion, _head(connection, promotion.model, promotion.alias))
                connection.execute(insert(ledger).values(**promotion.model_dump()))
                chain(connection, promotion.actor, f"alias.{promotion.kind}", _subject(promotion), _facts(promotion))
        except IntegrityError as error:
            raise _moved(promotion, "another process") from error

    def done(self, model: str, alias: str, seq: int, *, actor: str | None = None) -> None:
        """Mark a row, and older ones it has overtaken, as applied; each leaves the audit entry `alias.done`, once.

        Args:
            actor: who saw it applied; default the row's own actor.
        """
        mine = (ledger.c.model == model) & (ledger.c.alias == alias) & (ledger.c.seq <= seq) & (ledger.c.state == "intent")
        with writing(engine(self.url), turn=TURN) as connection:
            open_rows = connection.execute(select(ledger).where(mine).order_by(ledger.c.seq)).mappings().all()
            for row in map(_promotion, open_rows):
                chain(connection, actor or row.actor, "alias.done", _subject(row), _facts(row))
            connection.execute(update(ledger).where(mine).values(state="done"))

    def history(self, model: str, alias: str) -> list[Promotion]:
        """Rows, newest first."""
        query = select(ledger).where(ledger.c.model == model, ledger.c.alias == alias).order_by(ledger.c.seq.desc())
        with reading(engine(self.url)) as connection:
            return [_promotion(row) for row in connection.execute(query).mappings()]

    def heads(self) -> list[Promotion]:
        """The head of every model and alias."""
        newest = (
            select(ledger.c.model, ledger.c.alias, func.max(ledger.c.seq).label("seq")).group_by(ledger.c.model, ledger.c.alias).subquery()
        )
        same = (ledger.c.model == newest.c.model) & (ledger.c.alias == newest.c.alias) & (ledger.c.seq == newest.c.seq)
        with reading(engine(self.url)) as connection:
            rows = connection.execute(select(ledger).join(newest, same).order_by(ledger.c.model, ledger.c.alias)).mappings()
            return [_promotion(row) for row in rows]


def _head(connection: Connection, model: str, alias: str) -> Promotion | None:
    query = select(ledger).where(ledger.c.model == model, ledger.c.alias == alias).order_by(ledger.c.seq.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return _promotion(row) if row else None


def _expect(promotion: Promotion, head: Promotion | None) -> None:
    seq, version = (head.seq, head.version) if head else (0, None)
    if (promotion.seq, promotion.from_version) != (seq + 1, version):
        raise _moved(promotion, f"{head.actor} (now version {version}, entry {seq})" if head else "nobody yet: it names no version")


def _moved(promotion: Promotion, by: str) -> Conflict:
    return Conflict(
        f"Alias {promotion.alias} of {promotion.model} is not at version {promotion.from_version or 'none'} any more; moved by {by}.",
        fix=f"mlops {'eval' if promotion.kind == 'promote' else 'rollback'} {promotion.model}",
    )


def _promotion(row: RowMapping) -> Promotion:
    created = row["created_at"]  # SQLite keeps no zone
    return Promotion(**{**row, "created_at": created.replace(tzinfo=UTC) if created.tzinfo is None else created.astimezone(UTC)})


def _subject(promotion: Promotion) -> str:
    return f"{promotion.model}/{promotion.alias}"


def _facts(promotion: Promotion) -> dict[str, Any]:
    return promotion.model_dump(mode="json", exclude={"model", "alias", "state", "created_at"})
