"""What a connector is: something that yields a source's rows as Arrow batches. One file each in connectors/.

The base and the two things every connector needs, secrets and column names. `ingest` finds connectors through
`kinds.find("connector", name)`; strangers register theirs with an entry point in the group ``zebra.connector``.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from pydantic import ValidationError

from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.contracts.noun import Noun
from zebra_assets.errors import DataInvalid, SpecInvalid, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
BATCH_ROWS = 65_536
_SECRET = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
C = TypeVar("C", bound=Noun)


class Connector(Protocol):
    """Rows of one source. The class is the module's ``KIND``."""

    def __init__(self, source: SourceSpec, *, project: Path, secrets: Mapping[str, str]) -> None:
        """Check the options; touch nothing yet. `SpecInvalid` when an option is wrong."""
        ...

    def batches(self, columns: Mapping[str, Dtype]) -> Iterator["pa.RecordBatch"]:
        """All rows of one snapshot, or an error; never a part. Columns in any order and type that `table` can cast.

        Raises:
            NotFound: there is no such source.
            DataInvalid: it cannot be read as a table, or lacks a column (`match_columns`).
            Unavailable: it cannot be reached.
        """
        ...

    def revision(self) -> str | None:
        """A digest or version of what was read, or before reading of what is there; None where the source offers none.

        Cheap enough to be asked every few seconds. `NotFound` when there is no source.
        """
        ...

    def location(self) -> str:
        """Where the rows come from, without secrets."""
        ...


@runtime_checkable
class Ahead(Protocol):
    """What a connector may offer beside: to begin before its rows are asked for."""

    def ahead(self) -> AbstractContextManager[object]:
        """Begin with what can be done while Arrow and the rest are imported; leaving stops what is still under way."""
        ...


def match_columns(found: list[str], declared: Mapping[str, Dtype], where: str) -> list[str]:
    """The declared columns, all of which ``found`` must hold; what it holds beyond them is logged and left behind.

    Raises:
        DataInvalid: a column is missing or stands twice; the message guesses at misspellings.
    """
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise DataInvalid(f"{where} has two columns named {twice[0]!r}.", fix="rename one of them at the source")
    extra = [name for name in found if name not in declared]
    missing = [name for name in declared if name not in found]
    if missing:
        lines = "\n  ".join(f"column {name!r} is missing.{did_you_mean(name, extra)}" for name in missing)
        raise DataInvalid(
            f"{where} has the columns {', '.join(found)}:\n  {lines}", fix="rename the column at the source or in dataset.yaml"
        )
    if extra:
        log.info("%s: columns not in the recipe were left behind: %s", where, ", ".join(extra))
    return list(declared)


def fill_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """Replace each ``${NAME}`` by its secret.

    Raises:
        SpecInvalid: there is no such secret.
    """

    def one(match: re.Match[str]) -> str:
        name = match[1]
        if name not in secrets:
            raise SpecInvalid(f"The source needs the secret {name}, which is not set.", fix=f"add {name}=... to .env")
        return secrets[name]

    return _SECRET.sub(one, text)


def options(config: type[C], source: SourceSpec) -> C:
    """A connector's own options, read from ``source.parameters``.

    Raises:
        SpecInvalid: an option that it does not know, or a value that does not fit.
    """
    try:
        return config.model_validate(source.parameters)
    except ValidationError as error:
        known = list(config.model_fields)
        # A rule about several options at once has no place of its own.
        lines = [
            f"{'.'.join(['source.parameters', *map(str, e['loc'])])}: {e['msg']}.{did_you_mean(str(['', *e['loc']][-1]), known)}"
            for e in error.errors()
        ]
        raise SpecInvalid("\n".join(lines), fix=f"connector '{source.connector}' knows: {', '.join(known)}") from error
