"""A promoted version that brings code of its own: served only on an approver's proven word, from a process of its own.

Asked by `staging` when the workshop has refused a folder. The word comes from the audit log and never from the folder; without
it, or where no word could let the folder in, the workshop's refusal stands.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zebra_assets.contracts.code_approval import Approvals, CodeApproval
from zebra_assets.contracts.model_folder import NOT_COUNTED, ModelFeature
from zebra_assets.contracts.own_code import may_be_approved
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.errors import DataInvalid, Refused, ZebraError
from zebra_serving.compile.forms import scored
from zebra_serving.compile.workshop import Made
from zebra_serving.files import read_only
from zebra_serving.problems import InputInvalid, ModelFailed
from zebra_serving.rows import Rows
from zebra_serving.schema import schema_of
from zebra_serving.served import Scored

if TYPE_CHECKING:  # arrow, which the compiled forms do without
    from zebra_assets.adapters.own_code.process import OwnCodeModel

log = logging.getLogger(__name__)


class OwnCode:
    """The form of a model whose answers come from its own code."""

    form = "its own code"
    quick = False

    def __init__(self, model: "OwnCodeModel") -> None:
        self._model = model

    def predict(self, rows: Rows) -> Scored:
        try:
            return scored(self._model.predict(rows.table()))
        except DataInvalid as error:
            raise InputInvalid([], message=error.message) from error
        except ZebraError as error:
            raise ModelFailed(error.message, fix=error.fix) from error


class OwnCodeShop:
    """Opens versions that bring code.

    Args:
        keys: columns that a row may bring along.
    """

    def __init__(self, approvals: Approvals, keys: Sequence[ModelFeature] = ()) -> None:
        self._approvals, self._keys = approvals, keys

    def open(self, promotion: Promotion, folder: Path, refusal: Refused) -> tuple[Made, CodeApproval]:
        """The version in ``folder``, and the approval it runs on. Raises as `open_approved`."""
        if not may_be_approved(folder):
            raise refusal
        (folder / NOT_COUNTED).unlink(missing_ok=True)
        read_only(folder)
        from zebra_assets.adapters.own_code.approved import open_approved

        model, word = open_approved(folder, promotion.model, promotion.version, promotion.model_digest, self._approvals, refusal)
        log.info("version %s runs its own code, approved by %s (audit entry %d)", promotion.version, word.actor, word.seq)
        checked = f"nothing to compare: its own code answers, in {model.fence}"
        return Made(schema_of(tuple(model.features), tuple(self._keys)), OwnCode(model), checked, {}, None, model.weight), word

    def proven(self, promotion: Promotion) -> CodeApproval:
        """The approval that lets this version run now. Raises `Refused`, `Unavailable`."""
        return self._approvals.proven(promotion.model, promotion.version, promotion.model_digest)
