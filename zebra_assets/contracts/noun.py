"""The base of every noun: frozen, exact, readable back from its own JSON."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict


class Noun(BaseModel):
    """A frozen value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def to_json(self) -> str:
        """Indented JSON with the public field names, as written to disk and shown to people."""
        return self.model_dump_json(by_alias=True, indent=2)


def now() -> datetime:
    """The current time in UTC, to the millisecond: informative only, never used for ordering."""
    t = datetime.now(UTC)
    return t.replace(microsecond=t.microsecond // 1000 * 1000)
