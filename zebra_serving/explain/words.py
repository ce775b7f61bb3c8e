"""What server and helper say to each other: one JSON document a line.

helper: Ready            once its libraries are there
server: Job
helper: Opened           once it holds the version; the job's seconds begin here
helper: Told | Declined
"""

from typing import Any

import msgspec


class Job(msgspec.Struct, frozen=True):
    """Explain some rows.

    Attributes:
        folder: of the version, whose files must have this digest.
        store: of the compiled forms.
        rows: of the model's columns, checked already.
        seconds: when to stop, whatever has been found.
    """

    folder: str
    digest: str
    store: str
    rows: list[dict[str, Any]]
    seconds: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The helper takes jobs."""


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The version is in the helper's memory."""


class Share(msgspec.Struct, frozen=True):
    """One row's explanation: ``base + sum(contributions) == value``.

    Attributes:
        label, score: what the version says to the row.
        base: the mean of the explained output over the background.
        value: the explained output for this row.
        contributions: in the order of the model's columns.
        standard_error: the largest of the contributions'; 0 where they are exact.
        complete: exact, or sampled until the standard error was small enough; otherwise time was up before, or as much as is
            sensible was sampled.
    """

    label: Any
    score: float | None
    base: float
    value: float
    contributions: list[float]
    standard_error: float
    complete: bool


class Told(msgspec.Struct, frozen=True, tag="told"):
    """The job is done.

    Attributes:
        output: what was explained, for people.
        method: exact or sampled.
        background: rows that stand for "any customer".
    """

    output: str
    method: str
    background: int
    rows: list[Share]


class Declined(msgspec.Struct, frozen=True, tag="declined"):
    """The job cannot be done; `status` is HTTP's."""

    status: int
    message: str
    fix: str | None


Said = Ready | Opened | Told | Declined
