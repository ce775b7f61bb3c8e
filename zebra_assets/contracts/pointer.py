"""Pointers: what another system for versions calls the rows a manifest was made of, and who made it with which code.

Both locate and explain; neither is part of a manifest's identity. `datasets.pointer` finds them.
"""

from datetime import datetime
from typing import Literal

from pydantic import Field

from zebra_assets.contracts.noun import Noun


class Pointer(Noun):
    """One source file, folder or prefix as DVC or lakeFS name it."""

    system: Literal["dvc", "lakefs"]
    path: str = Field(description="What is pointed at: a path from the project, or the URL.")
    version: str = Field(description="dvc: the md5 its file records; lakefs: the reference in the URL.")
    holds: bool | None = Field(description="Whether the version names exactly what was read; None where that was not checked.")
    repository: str | None = Field(default=None, description="lakefs: the repository.")
    commit: str | None = Field(default=None, description="dvc: the git commit that holds the .dvc file, unchanged.")


class Origin(Noun):
    """Who had rows made into a manifest, when, and with which commit of recipe and platform."""

    actor: str
    at: datetime
    commit: str | None = Field(default=None, description="Git commit around the recipe; None without one.")
    dirty: bool | None = Field(default=None, description="Whether the recipe, or the platform in the same repository, differed from it.")
