"""`Sketches` on the state database: what servers remember of their predictions, one row per version, hour and server."""

from datetime import UTC, datetime

from sqlalchemy import func, select

from zebra_assets.adapters.state import engine, insert_or, reading, writing
from zebra_assets.adapters.tables import sketches
from zebra_assets.contracts.sketch import WindowSketch


class SqlSketches:
    """The sketches of one state database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def save(self, window: WindowSketch) -> None:
        """Insert, or replace the window of the same id with what it has become."""
        opened = engine(self.url)
        values = {
            "id": window.id, "model": window.model, "version": window.version, "window_start": window.window_start,
            "rows": window.rows, "body": window.model_dump_json(),
        }  # fmt: skip
        statement = insert_or(opened, sketches).values(**values)
        changed = {name: values[name] for name in ("rows", "body")}
        with writing(opened) as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changed))

    def windows(self, model: str, *, version: str | None = None, since: datetime | None = None) -> list[WindowSketch]:
        """A model's windows, or those of one version that began at ``since`` or later; oldest first."""
        query = select(sketches.c.body).where(sketches.c.model == model).order_by(sketches.c.window_start, sketches.c.id)
        if version is not None:
            query = query.where(sketches.c.version == version)
        if since is not None:
            query = query.where(sketches.c.window_start >= since)
        with reading(engine(self.url)) as connection:
            bodies = connection.execute(query).scalars().all()
        return [WindowSketch.model_validate_json(body) for body in bodies]

    def newest(self, model: str, version: str, *, rows: int) -> list[WindowSketch]:
        """The newest whole hours of a version that together hold ``rows`` predictions, or all there are; oldest first."""
        began = sketches.c.window_start
        query = select(began, sketches.c.rows).where(sketches.c.model == model, sketches.c.version == version).order_by(began.desc())
        held, since = 0, None
        with reading(engine(self.url)) as connection:
            for start, more in connection.execute(query):
                hour = _hour(start)
                if held >= rows and since is not None and hour < since:
                    break
                held, since = held + more, hour
        return [] if since is None else self.windows(model, version=version, since=since)

    def made(self, model: str, version: str) -> int:
        """How many predictions a version's windows hold."""
        query = select(func.coalesce(func.sum(sketches.c.rows), 0)).where(sketches.c.model == model, sketches.c.version == version)
        with reading(engine(self.url)) as connection:
            return int(connection.execute(query).scalar_one())


def _hour(start: datetime) -> datetime:
    """The full hour before a moment; SQLite keeps no zone, and all moments here are UTC."""
    utc = start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)
    return utc.replace(minute=0, second=0, microsecond=0)
