"""What is being served: one version, verified, tested and ready. Swapped as one reference, so an answer names one version.

A `Model` is a promoted model in some executable form; the forms are in `compile/forms`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import repeat
from typing import Any, Protocol

import numpy as np

from zebra_assets.contracts.code_approval import CodeApproval
from zebra_assets.contracts.promotion import Promotion
from zebra_serving.rows import Rows
from zebra_serving.schema import RowSchema


@dataclass(frozen=True, slots=True)
class Scored:
    """One answer per row. ``scores`` are probabilities of the positive class, 0 to 1; None unless the task is binary."""

    labels: list[Any]
    scores: list[float] | None

    def at(self, places: Sequence[int]) -> list[tuple[Any, float | None]]:
        """(label, score) of some rows."""
        labels, scores = self.labels, self.scores
        return [(labels[i], None if scores is None else scores[i]) for i in places]

    def part(self, step: slice) -> "Scored":
        """The answers to some rows."""
        return Scored(self.labels[step], None if self.scores is None else self.scores[step])


class ScoredColumns(Scored):
    """Answers as arrays, the lists made when somebody asks for them.

    Args:
        words: what the labels are; None where they are the numbers in ``found``.
        found: (rows,) each row's place among ``words``, or its value.
        chances: (rows,) the scores.
    """

    words: list[Any] | None
    found: np.ndarray
    chances: np.ndarray | None

    def __init__(self, words: list[Any] | None, found: np.ndarray, chances: np.ndarray | None) -> None:
        for name, value in (("words", words), ("found", found), ("chances", chances)):
            object.__setattr__(self, name, value)

    @cached_property
    def labels(self) -> list[Any]:
        places = self.found.tolist()
        return places if self.words is None else [self.words[k] for k in places]

    @cached_property
    def scores(self) -> list[float] | None:
        return None if self.chances is None else self.chances.tolist()

    def at(self, places: Sequence[int]) -> list[tuple[Any, float | None]]:
        return self._picked(np.fromiter(places, np.intp, len(places))).pairs()

    def part(self, step: slice) -> Scored:
        return self._picked(step)

    def pairs(self) -> list[tuple[Any, float | None]]:
        """(label, score) of every row."""
        return list(zip(self.labels, repeat(None) if self.scores is None else self.scores, strict=False))

    def _picked(self, where: Any) -> "ScoredColumns":
        return ScoredColumns(self.words, self.found[where].copy(), None if self.chances is None else self.chances[where].copy())


class Model(Protocol):
    """A promoted model in some executable form. Called from several threads at once.

    Attributes:
        form: its name.
        quick: whether a lone row costs less than handing it to another thread would.
    """

    form: str
    quick: bool

    def predict(self, rows: Rows) -> Scored:
        """One answer per row, in order; `ScoredColumns` to `Columns` where the form can.

        Raises:
            ModelFailed: an answer is not a finite number.
        """
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A version in memory.

    Attributes:
        call_s: seconds of a warm call with one row, measured by the self-test; None when there was no stored example.
        self_test: what the self-test did, for people.
        metrics: the evaluation's figures, where the records have them.
        outputs: V2 datatype of a label, and whether there are scores.
        checked: how the form was compared with scikit-learn's own answers.
        refused: quicker forms that were not taken, each with the reason.
        weight: bytes of memory, see `weight`.
        approval: whose word lets it run its own code; None for all others.
        hold: keeps its files from being pruned.
    """

    promotion: Promotion
    schema: RowSchema
    model: Model
    loaded_at: datetime
    self_test: str
    call_s: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    outputs: tuple[str, bool] = ("BYTES", False)
    checked: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    weight: int = 0
    approval: CodeApproval | None = None
    hold: object = field(default=None, compare=False, repr=False)

    def is_version_of(self, promotion: Promotion) -> bool:
        """Whether ``promotion`` names these very bytes."""
        return (promotion.version, promotion.model_digest) == (self.promotion.version, self.promotion.model_digest)


def datatype_of(label: Any) -> str:
    """The Open Inference Protocol's word for a label's type."""
    return {str: "BYTES", bool: "BOOL", int: "INT64"}.get(type(label), "FP64")
