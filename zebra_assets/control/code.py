"""The `code` verbs: an approver's word that one version may run the code in its folder, and taking that word back.

A word is an entry of the audit log and nothing else; servers and evaluations believe it while the log's chain holds. Approving
looks at the version's bytes first: what is approved is what lies in the registry now, and it is what the run made.
"""

from dataclasses import dataclass
from pathlib import Path

from zebra_assets.contracts.code_approval import APPROVED, REVOKED, CodeApproval, subject_of
from zebra_assets.contracts.model_folder import read_model_folder
from zebra_assets.contracts.names import VERSION, check_name
from zebra_assets.contracts.own_code import verify_own_code
from zebra_assets.contracts.run import Run
from zebra_assets.errors import NotFound, Refused, UsageError
from zebra_assets.parts import Parts


@dataclass(frozen=True)
class Shown:
    """A version that brings code: its files with their sizes, who trained it where that is known, and the newest word."""

    model: str
    version: str
    run_id: str
    model_digest: str
    trained_by: str | None
    files: dict[str, int]
    approval: CodeApproval | None


def show(parts: Parts, model: str, version: str) -> Shown:
    """What an approver looks at.

    Raises:
        UsageError: the version brings no code.
        NotFound: no such version.
        Refused: nobody can approve it: its bytes are not the run's, or its folder leads elsewhere.
    """
    run = _run(parts, model, version)
    assert run.model_digest is not None
    folder = parts.registry.download(model, version, parts.settings.home / "cache" / "models")
    verify_own_code(folder, run.model_digest)
    if _is_plain(folder):
        raise UsageError(f"Version {version} of '{model}' brings no code: there is nothing to approve.", fix=f"mlops eval {model}")
    files = {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    return Shown(model, version, run.id, run.model_digest, _trainer(parts, run), files, parts.approvals.newest(model, version))


def approve(parts: Parts, model: str, version: str, reason: str) -> CodeApproval:
    """Let the version run its code, byte for byte as it is now.

    Raises:
        UsageError, NotFound: see `show`; no reason.
        Refused: see `show`; or the approver trained the version, where `four_eyes` asks for another one.
        Unavailable: nobody could write it down.
    """
    if not reason.strip():
        raise UsageError("An approval needs a reason: it is read when something has gone wrong.", fix="--reason 'read by …'")
    seen = show(parts, model, version)
    who = parts.settings.who
    if parts.settings.four_eyes and seen.trained_by in (None, who):
        trained = f"{who} trained it" if seen.trained_by else "nobody knows who trained it"
        raise Refused(f"Another one than its trainer must approve version {version} of '{model}': {trained}.", fix="ask a colleague")
    facts = {"model_digest": seen.model_digest, "run_id": seen.run_id, "reason": reason}
    parts.audit.append(who, APPROVED, subject_of(model, version), facts)
    return parts.approvals.proven(model, version, seen.model_digest)


def revoke(parts: Parts, model: str, version: str, reason: str) -> CodeApproval:
    """Take the word back: from its next load on, no server runs the version. What runs now goes on until the alias moves.

    Raises:
        NotFound: there is no word to take back.
    """
    check_name(model, "model")
    word = parts.approvals.newest(model, version)
    if word is None or not word.granted:
        raise NotFound(f"The code of version {version} of '{model}' is not approved.", fix=f"mlops code show {model} {version}")
    parts.audit.append(parts.settings.who, REVOKED, subject_of(model, version), {"model_digest": word.model_digest, "reason": reason})
    revoked = parts.approvals.newest(model, version)
    assert revoked is not None
    return revoked


def _run(parts: Parts, model: str, version: str) -> Run:
    check_name(model, "model")
    found = None
    if VERSION.fullmatch(version):
        found = next((r for r in parts.records.runs(model, limit=10_000) if r.version == version and r.model_digest), None)
    if found is None:
        raise NotFound(f"Model '{model}' has no version {version}.", fix=f"mlops list runs --model {model}")
    return found


def _is_plain(folder: Path) -> bool:
    try:
        read_model_folder(folder)
    except Refused:
        return False
    return True


def _trainer(parts: Parts, run: Run) -> str | None:
    entries = parts.audit.entries(subject=f"run/{run.id}", action="model.trained")
    return next((entry.said()["actor"] for entry in entries), None)
