"""What is being served: one version, verified, tested and ready. Swapped as one reference, so an answer names one version.

A `Model` is a promoted model in some executable form; the forms are in `compile/forms`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from zebra_assets.contracts.promotion import Promotion
from zebra_serving.schema import Rows, RowSchema


@dataclass(frozen=True, slots=True)
class Scored:
    """One answer per row. ``scores`` are probabilities of the positive class, 0 to 1; None unless the task is binary."""

    labels: list[Any]
    scores: list[float] | None


class Model(Protocol):
    """A promoted model in some executable form. Called from several threads at once.

    Attributes:
        form: its name.
        quick: whether a lone row costs less than handing it to another thread would.
    """

    form: str
    quick: bool

    def predict(self, rows: Rows) -> Scored:
        """One answer per row, in order.

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

    def is_version_of(self, promotion: Promotion) -> bool:
        """Whether ``promotion`` names these very bytes."""
        return (promotion.version, promotion.model_digest) == (self.promotion.version, self.promotion.model_digest)


def datatype_of(label: Any) -> str:
    """The Open Inference Protocol's word for a label's type."""
    return {str: "BYTES", bool: "BOOL", int: "INT64"}.get(type(label), "FP64")
