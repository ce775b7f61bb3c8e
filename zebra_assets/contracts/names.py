"""Names and ids, validated once, here, at the boundary.

Every name that becomes part of a path, a partition key, an S3 key or a SQL parameter passes one of these patterns;
`safe_join` is the only way from a name to a path. Nothing else in the house joins paths from input.
"""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from zebra_assets.errors import Refused, UsageError

# Ask with `fullmatch`: to `match`, '$' lets a trailing newline through.
NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,45}$")
MANIFEST_ID = re.compile(r"^[a-z0-9][a-z0-9_-]{7,63}$")
DIGEST = re.compile(r"^[0-9a-f]{64}$")
VERSION = re.compile(r"^[1-9][0-9]{0,9}$")
EXPERIMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9 ._/-]{0,199}$")
FILENAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$")

# Where a person finds a name that fits, by what the name is of.
_KNOWN = {
    "model": "mlops list models",
    "dataset": "mlops list datasets",
    "alias": "prod or staging",
    "project": "mlops init my-project",
    "manifest": "mlops list datasets",
    "run": "mlops list runs",
}


def check_name(value: str, what: str = "name") -> str:
    """Return ``value`` if it is a legal name, else raise.

    Raises:
        UsageError: not 1-46 characters of a-z, 0-9, '-' and '_', starting with a letter or digit.
    """
    if not NAME.fullmatch(value):
        raise UsageError(
            f"{what} {value!r} is not a legal name: use 1 to 46 of a-z, 0-9, '-' and '_', starting with a letter or digit.",
            fix=_KNOWN.get(what, "write it like 'tabular-churn'"),
        )
    return value


def check_manifest_id(value: str, what: str = "manifest") -> str:
    """Return ``value`` if it has the form of a manifest's or run's id (also a Dagster partition key), else raise `UsageError`."""
    if not MANIFEST_ID.fullmatch(value):
        raise UsageError(f"{value!r} is not a {what} id; they look like 'tabular-churn-3f9a2c1b7e408d15'.", fix=_KNOWN[what])
    return value


def slug(name: str) -> str:
    """The name as Dagster spells it in jobs, sensors and groups, where '-' is not allowed."""
    return name.replace("-", "_")


def safe_join(root: Path, *parts: str) -> Path:
    """Join ``parts`` below ``root``; the result is guaranteed to lie inside it, symlinks resolved.

    Raises:
        Refused: the path leaves ``root``.
    """
    base = root.resolve()
    if any("\x00" in part for part in parts):
        raise Refused("A path with a NUL byte was refused.", fix="use a plain file name")
    path = base.joinpath(*parts).resolve()
    if not path.is_relative_to(base):
        raise Refused(f"Path {'/'.join(parts)!r} leaves {root.name}/.", fix="use a plain name without '..' or a leading '/'")
    return path


def _matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value) or ".." in value:
            raise ValueError(f"is not a legal {what} (pattern {pattern.pattern})")
        return value

    return AfterValidator(check)


Name = Annotated[str, _matching(NAME, "name")]
ManifestId = Annotated[str, _matching(MANIFEST_ID, "manifest id")]
Digest = Annotated[str, _matching(DIGEST, "sha256 digest")]
Version = Annotated[str, _matching(VERSION, "model version")]
Experiment = Annotated[str, _matching(EXPERIMENT, "experiment name")]
Filename = Annotated[str, _matching(FILENAME, "file name")]
