"""`Sketches` on the state database: what servers remember of their predictions, one row per version, hour and server."""

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from zebra_assets.adapters.state import engine, reading, writing
from zebra_assets.adapters.tables import sketches
from zebra_assets.contracts.sketch import WindowSketch

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class SqlSketches:
    """The sketches of one state database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def save(self, window: WindowSketch) -> None:
        """Insert, or replace the window of the same id with what it has become."""
        opened = engine(self.url)
        values = {
            "id": window.id, "model": window.model, "version": window.version, "window_start": window.window_start,
            "body": window.model_dump_json(),
        }  # fmt: skip
        statement = _INSERT[opened.dialect.name](sketches).values(**values)
        with writing(opened) as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"body": values["body"]}))

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
