"""`Approvals` out of the audit log: believed only while the whole chain holds.

Reading all of it is the price of a belief, and is paid when a version that brings code is loaded: never by a request, never
by other models.
"""

import threading
from collections.abc import Iterator
from datetime import datetime

from zebra_assets.adapters.audit_log import SqlAudit
from zebra_assets.contracts.code_approval import APPROVED, REVOKED, CodeApproval, subject_of
from zebra_assets.errors import Refused
from zebra_assets.governance.audit import Entry, verify


class SqlApprovals:
    """The approvals in one state database.

    Remembers how far it has seen the chain: a log that was cut short while this process lives, a revocation with it, is noticed,
    although a shorter chain holds by itself.
    """

    def __init__(self, url: str) -> None:
        self._audit = SqlAudit(url)
        self._seen: tuple[int, bytes] | None = None
        self._lock = threading.Lock()

    def newest(self, model: str, version: str) -> CodeApproval | None:
        """The newest word on a version as it stands written; the chain is not checked."""
        words = [e for e in self._audit.entries(subject=subject_of(model, version)) if e.action in (APPROVED, REVOKED)]
        return _word(model, version, words[-1]) if words else None

    def proven(self, model: str, version: str, digest: str) -> CodeApproval:
        """The approval that lets these bytes run; see `Approvals`."""
        with self._lock:
            entry = self._believed(subject_of(model, version))
        fix = f"mlops code approve {model} {version} --reason WHY"
        if entry is None:
            raise Refused(f"Nobody has approved that version {version} of '{model}' runs code of its own.", fix=fix)
        word = _word(model, version, entry)
        if not word.granted:
            why = f": {word.reason}" if word.reason else ""
            raise Refused(f"{word.actor} revoked the approval of version {version}'s code{why}.", fix=fix)
        if word.model_digest != digest:
            said = f"The approval of version {version} of '{model}' is for the bytes {word.model_digest[:16]}, not for {digest[:16]}."
            raise Refused(said, fix=fix)
        return word

    def _believed(self, subject: str) -> Entry | None:
        """The newest word about ``subject``, after every entry of the log was checked."""
        found: Entry | None = None
        last: tuple[int, bytes] | None = None
        remembered = self._seen is None

        def entries() -> Iterator[Entry]:
            nonlocal found, last, remembered
            for entry in self._audit.entries():
                if entry.subject == subject and entry.action in (APPROVED, REVOKED):
                    found = entry
                last = (entry.seq, entry.hash)
                remembered = remembered or last == self._seen
                yield entry

        broken = verify(entries())
        if broken is not None:
            raise _doubt(f"The audit log does not hold at entry {broken}")
        if not remembered and self._seen is not None:
            raise _doubt(f"The audit log has lost entry {self._seen[0]}, which was there")
        self._seen = last
        return found


def _doubt(what: str) -> Refused:
    return Refused(
        f"{what}, so no approval of a model's code is believed.", fix="find out who wrote to the state database; restore it from a copy"
    )


def _word(model: str, version: str, entry: Entry) -> CodeApproval:
    said = entry.said()
    facts = said["facts"]
    return CodeApproval(
        model=model, version=version, model_digest=facts["model_digest"], granted=entry.action == APPROVED, actor=said["actor"],
        reason=facts["reason"], created_at=datetime.fromisoformat(said["ts"]), seq=entry.seq,
    )  # fmt: skip
