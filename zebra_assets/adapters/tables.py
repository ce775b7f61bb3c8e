"""The tables of the state database, as the newest migration leaves them.

Nouns rest as their own JSON beside the few columns that are searched by; the ledger alone is spelled out, because people
and other tools read it with SQL. `seq` gives the order everywhere; times inform.
"""

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, LargeBinary, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()

# SQLite counts by itself in a column that is exactly INTEGER.
_Seq = BigInteger().with_variant(Integer(), "sqlite")

records = Table(
    "records",
    metadata,
    Column("seq", _Seq, primary_key=True),
    Column("kind", String(16), nullable=False),  # run, report, decision, drift
    Column("id", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("run_id", String(64)),  # what a report or decision is about
    Column("body", Text, nullable=False),
    UniqueConstraint("kind", "id", name="records_kind_id"),
    Index("records_by_model", "kind", "model", "seq"),
    Index("records_by_run", "kind", "run_id", "seq"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("version", String(16), nullable=False),
    Column("from_version", String(16)),
    Column("run_id", String(64), nullable=False),
    Column("manifest_id", String(64), nullable=False),
    Column("model_digest", String(64), nullable=False),
    Column("decision_id", String(64), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("seq", _Seq, primary_key=True),
    Column("event_id", String(64), nullable=False),
    Column("type", String(32), nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", String(16)),
    Column("body", Text, nullable=False),
    UniqueConstraint("event_id", name="events_event_id"),
    Index("events_by_model", "model", "type", "seq"),
    Index("events_by_version", "model", "type", "version", "seq"),
)

# A server's memory of one hour of one version, replaced as the hour goes on: a state, not a history.
sketches = Table(
    "sketches",
    metadata,
    Column("id", String(160), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("version", String(16), nullable=False),
    Column("window_start", DateTime(timezone=True), nullable=False),
    Column("rows", BigInteger, nullable=False, server_default="0"),
    Column("body", Text, nullable=False),
    Index("sketches_by_version", "model", "version", "window_start"),
)

# Routes as the ledger: rows are only added, each with its audit entry.
routes = Table(
    "routes",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("body", Text, nullable=False),
)

# What a server saw of an arm: a state, replaced as it goes on.
arms = Table(
    "arms",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("alias", String(64), nullable=False),
    Column("route", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Index("arms_by_route", "model", "alias", "route"),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("seq", _Seq, primary_key=True),
    Column("model", String(64), nullable=False),
    Column("alias", String(64), nullable=False),
    Column("champion", String(16), nullable=False),
    Column("candidate", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Index("verdicts_by_versions", "model", "alias", "champion", "candidate", "seq"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("actor", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("prev", LargeBinary(32), nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Index("audit_by_subject", "subject", "seq"),
    Index("audit_by_action", "action", "seq"),
)
