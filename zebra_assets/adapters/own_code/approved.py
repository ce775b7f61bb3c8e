"""From a folder that was refused to a model that runs its own code, if an approver's proven word covers exactly these bytes.

For whoever opens registered versions: the evaluation and the server. Nobody else starts `process`.
"""

from pathlib import Path

from zebra_assets.adapters.own_code.process import OwnCodeModel
from zebra_assets.contracts.code_approval import Approvals, CodeApproval
from zebra_assets.contracts.model_folder import NOT_COUNTED
from zebra_assets.contracts.own_code import may_be_approved, verify_own_code
from zebra_assets.errors import Refused


def open_approved(
    folder: Path, model: str, version: str, digest: str, approvals: Approvals, refusal: Refused
) -> tuple[OwnCodeModel, CodeApproval]:
    """The model in ``folder``, and the approval it runs on.

    Args:
        digest: of the version's files, as the ledger or the run's record says.
        refusal: why the folder was not opened like others.

    Raises:
        Refused: ``refusal``, where nobody could approve the folder; other bytes; no approval of these; code that does not open.
        Unavailable: the audit log cannot be read.
    """
    if not may_be_approved(folder):
        raise refusal
    (folder / NOT_COUNTED).unlink(missing_ok=True)
    card = verify_own_code(folder, digest)
    try:
        approval = approvals.proven(model, version, digest)
    except Refused as no:
        raise Refused(f"{refusal.message} {no.message}", fix=no.fix) from no
    return OwnCodeModel(folder, digest, card), approval
