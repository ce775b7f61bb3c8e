"""`Routes` on the state database: the log of routes with its audit entries, tallies of arms, and verdicts."""

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from zebra_assets.adapters.audit_log import TURN, chain
from zebra_assets.adapters.state import engine, insert_or, reading, writing
from zebra_assets.adapters.tables import arms, routes, verdicts
from zebra_assets.contracts.arm import ArmTally
from zebra_assets.contracts.route import Route, Verdict
from zebra_assets.errors import Conflict


class SqlRoutes:
    """The routes of one state database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def head(self, model: str, alias: str) -> Route | None:
        """The route in force: the row with the highest seq."""
        return next(iter(self._rows(model, alias, limit=1)), None)

    def history(self, model: str, alias: str) -> list[Route]:
        """Rows, newest first."""
        return self._rows(model, alias, limit=None)

    def append(self, route: Route) -> None:
        """Insert ``route`` as head, together with the audit entry `route.<kind>`.

        Raises:
            Conflict: its seq is not head + 1.
        """
        row = route.model_dump(include={"model", "alias", "seq", "kind", "actor", "reason", "created_at"})
        facts = route.model_dump(mode="json", exclude={"model", "alias", "salt", "created_at"})
        seen = select(routes.c.seq, routes.c.actor).where(routes.c.model == route.model, routes.c.alias == route.alias)
        try:
            with writing(engine(self.url), turn=TURN) as connection:
                last = connection.execute(seen.order_by(routes.c.seq.desc()).limit(1)).first()
                if route.seq != (last.seq + 1 if last else 1):
                    raise _changed(route, str(last.actor) if last else "nobody yet")
                connection.execute(insert(routes).values(**row, body=route.model_dump_json()))
                chain(connection, route.actor, f"route.{route.kind}", f"{route.model}/{route.alias}", facts)
        except IntegrityError as error:
            raise _changed(route, "another process") from error

    def save_tally(self, tally: ArmTally) -> None:
        """Insert, or replace the tally of the same id."""
        opened = engine(self.url)
        body = tally.model_dump_json()
        values = {"id": tally.id, "model": tally.model, "alias": tally.alias, "route": tally.route, "body": body}
        statement = insert_or(opened, arms).values(**values)
        with writing(opened) as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"body": body}))

    def tallies(self, model: str, alias: str, route: int) -> list[ArmTally]:
        """What every server saw under one route."""
        query = select(arms.c.body).where(arms.c.model == model, arms.c.alias == alias, arms.c.route == route).order_by(arms.c.id)
        with reading(engine(self.url)) as connection:
            return [ArmTally.model_validate_json(body) for body in connection.execute(query).scalars()]

    def save_verdict(self, verdict: Verdict) -> None:
        """Keep it as the newest word on its two versions."""
        row = verdict.model_dump(include={"model", "alias", "champion", "candidate"})
        with writing(engine(self.url)) as connection:
            connection.execute(insert(verdicts).values(**row, body=verdict.model_dump_json()))

    def verdict(self, model: str, alias: str, champion: str, candidate: str) -> Verdict | None:
        """The newest word on two versions."""
        c = verdicts.c
        query = select(c.body).where(c.model == model, c.alias == alias, c.champion == champion, c.candidate == candidate)
        with reading(engine(self.url)) as connection:
            body = connection.execute(query.order_by(c.seq.desc()).limit(1)).scalar()
        return None if body is None else Verdict.model_validate_json(body)

    def _rows(self, model: str, alias: str, limit: int | None) -> list[Route]:
        query = select(routes.c.body).where(routes.c.model == model, routes.c.alias == alias)
        with reading(engine(self.url)) as connection:
            bodies = connection.execute(query.order_by(routes.c.seq.desc()).limit(limit)).scalars().all()
        return [Route.model_validate_json(body) for body in bodies]


def _changed(route: Route, by: str) -> Conflict:
    return Conflict(
        f"The route of {route.model}/{route.alias} was changed meanwhile by {by}; entry {route.seq} is not the next one.",
        fix=f"mlops route show {route.model}",
    )
