"""What went wrong in the world, what to do about it, and the exit code that says so.

Every failure a person can cause or mend is a `ZebraError`: a sentence that names what, where and why, and a `fix`
that can be pasted. The CLI prints both and exits with the class's code; the server answers with its `http_status`.
Programming mistakes are not wrapped: they keep their traceback.
"""

import shlex
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar


class ZebraError(Exception):
    """Base of all errors meant for people.

    Args:
        message: one sentence or short list: what, where, why.
        fix: the next command or edit, ready to paste.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return self.message if self.fix is None else f"{self.message}\n  fix: {self.fix}"


class UsageError(ZebraError):
    """The words of a command do not fit: unknown profile, bad name, contradictory options."""

    exit_code = 2
    http_status = 400


class SpecInvalid(ZebraError):
    """A model.yaml, dataset.yaml or profile does not say what it must."""

    exit_code = 3
    http_status = 422


class NotFound(ZebraError):
    """A named thing (model, dataset, manifest, run, version) does not exist here."""

    exit_code = 4
    http_status = 404


class DataInvalid(ZebraError):
    """The rows break the recipe's promises; no manifest was made of them."""

    exit_code = 5
    http_status = 422


class TrainingFailed(ZebraError):
    """The training process ended without a model that can be registered."""

    exit_code = 6


class GateClosed(ZebraError):
    """The gate said no, or nothing says it said yes. The alias stays where it was."""

    exit_code = 7
    http_status = 409


class Conflict(ZebraError):
    """Somebody else was first: the thing to be changed is no longer what the caller saw."""

    exit_code = 8
    http_status = 409


class Unavailable(ZebraError):
    """A store or server cannot be reached, so the outcome is unknown; nothing was retried blindly."""

    exit_code = 9
    http_status = 503


class Refused(ZebraError):
    """Refused for safety: bytes that differ from their digest, a path outside its folder, an untrusted model file."""

    exit_code = 10
    http_status = 403


def did_you_mean(word: str, known: list[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known word, or an empty string."""
    near = closest(word, known)
    return f" Did you mean '{near}'?" if near else ""


def closest(word: str, known: list[str]) -> str | None:
    """The known word that ``word`` was most likely meant to be."""
    return next(iter(get_close_matches(word, known, n=1, cutoff=0.6)), None)


def edit(path: Path, line: int | None = None) -> str:
    """A fix that opens ``path`` (at ``line``) in the person's editor, also where none is configured."""
    return " ".join(["${EDITOR:-vi}", *([f"+{line}"] if line else []), shlex.quote(str(path))])
