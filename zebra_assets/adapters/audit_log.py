"""`AuditLog` on the state database: entries chained as `governance/audit` says, one writer at a time.

`chain` adds an entry inside a transaction that somebody else holds, so that the ledger's row and its entry stand or fall
together.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Select, insert, select

from zebra_assets.adapters.state import engine, reading, writing
from zebra_assets.adapters.tables import audit
from zebra_assets.contracts.noun import now
from zebra_assets.governance.audit import Entry, body_of, follow, verify

TURN = "audit"
_PAGE = 5000  # entries held at once while reading: some 5 MB


class SqlAudit:
    """The audit log of one state database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def append(self, actor: str, action: str, subject: str, body: Mapping[str, Any]) -> int:
        """Durably append and return the sequence number. If this raises, the action must not happen."""
        with writing(engine(self.url), turn=TURN) as connection:
            return chain(connection, actor, action, subject, body)

    def entries(self, *, subject: str | None = None, action: str | None = None, after: int = 0) -> Iterator[Entry]:
        """Entries with seq > ``after``, oldest first, of one subject or action where named."""
        query = select(audit).order_by(audit.c.seq).limit(_PAGE)
        if subject is not None:
            query = query.where(audit.c.subject == subject)
        if action is not None:
            query = query.where(audit.c.action == action)
        while page := self._page(query.where(audit.c.seq > after)):
            yield from page
            after = page[-1].seq

    def verify(self) -> int | None:
        """The first seq at which the stored chain does not hold, or None."""
        return verify(self.entries())

    def _page(self, query: Select[Any]) -> list[Entry]:
        with reading(engine(self.url)) as connection:
            return [Entry(**{**row, "body": bytes(row["body"])}) for row in connection.execute(query).mappings()]


def chain(connection: Connection, actor: str, action: str, subject: str, facts: Mapping[str, Any]) -> int:
    """Append inside the transaction of ``connection``, which must hold the turn `TURN`."""
    last = connection.execute(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).first()
    body = body_of(actor, action, subject, facts, now())
    seq, prev, link = follow((last.seq, bytes(last.hash)) if last else None, body)
    connection.execute(insert(audit).values(seq=seq, actor=actor, action=action, subject=subject, body=body, prev=prev, hash=link))
    return seq
