"""CodeApproval: an approver's word that one version of a model, byte for byte, may run code of its own.

The words rest in the audit log alone, whose chain shows a forged or changed one; `adapters/approvals` reads them there.
"""

from datetime import datetime
from typing import Protocol

from zebra_assets.contracts.names import Digest, Name, Version
from zebra_assets.contracts.noun import Noun

APPROVED, REVOKED = "code.approved", "code.revoked"


class CodeApproval(Noun):
    """The newest word on one version. `seq` is its entry in the audit log; `granted` is False for a revocation."""

    model: Name
    version: Version
    model_digest: Digest
    granted: bool
    actor: str
    reason: str
    created_at: datetime
    seq: int


class Approvals(Protocol):
    """Who has approved which code."""

    def newest(self, model: str, version: str) -> CodeApproval | None:
        """The newest word on a version as it stands written, for people to look at; the chain is not checked."""
        ...

    def proven(self, model: str, version: str, digest: str) -> CodeApproval:
        """The approval that lets these bytes run.

        Raises:
            Refused: nobody gave one, it was revoked, it is for other bytes, or the audit log does not hold.
            Unavailable: the audit log cannot be read.
        """
        ...


def subject_of(model: str, version: str) -> str:
    """What the audit log's entries about a version's code are filed under."""
    return f"code/{model}/{version}"
