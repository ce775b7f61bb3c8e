"""Reconcile: where the registry's aliases differ from the ledger, the ledger wins, and the audit log says what was found.

Two ways to differ: a promotion was cut short before the registry knew, or somebody moved an alias past the gate. Run by a
sensor every half minute, and by whoever types `mlops reconcile`.
"""

from typing import Literal

from zebra_assets.contracts.names import Name, Version
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.ports import AuditLog, Ledger, Registry
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.errors import ZebraError
from zebra_assets.promotion.projection import project


class Astray(Noun):
    """An alias that does not say what the ledger says."""

    model: Name
    alias: Name
    seq: int
    cause: Literal["cut short", "moved by hand"]
    version: Version
    found: str | None

    def __str__(self) -> str:
        shown = f"version {self.found}" if self.found else "nothing"
        promised = f"{self.alias} of {self.model} is version {self.version} by ledger entry {self.seq}"
        return f"{promised}, but the registry shows {shown} ({self.cause})"


class Healed(Astray):
    """What was done about it; ``problem`` says why nothing could be."""

    problem: str | None = None

    def __str__(self) -> str:
        if self.problem:
            return f"{super().__str__()}; not mended: {self.problem}"
        if self.cause == "cut short":
            return f"{self.alias} of {self.model}: finished the move to version {self.version} (ledger entry {self.seq})"
        return f"{self.alias} of {self.model}: somebody had moved it to version {self.found or 'none'}; put back to version {self.version}"


def reconcile(*, ledger: Ledger, registry: Registry, audit: AuditLog, actor: str) -> list[Healed]:
    """Finish promotions that were cut short and put back aliases that were moved by hand; what was healed.

    An alias moved by hand leaves the audit entry `alias.drift` with both versions before it is put back. One alias that
    cannot be mended does not keep the others from it.

    Raises:
        Unavailable: the ledger, the audit log or the registry cannot be read.
    """
    return [_heal(lost, ledger=ledger, registry=registry, audit=audit, actor=actor) for lost in drifted(ledger=ledger, registry=registry)]


def drifted(*, ledger: Ledger, registry: Registry) -> list[Astray]:
    """Aliases that differ from the ledger, and promotions not yet marked done. Changes nothing."""
    return [lost for head in ledger.heads() if (lost := _look(head, ledger, registry)) is not None]


def _look(head: Promotion, ledger: Ledger, registry: Registry) -> Astray | None:
    found = registry.alias(head.model, head.alias)
    if ledger.head(head.model, head.alias) != head:
        return None  # moved while we looked: whoever moves it now also projects it
    if head.state == "done" and found == head.version:
        return None
    cause: Literal["cut short", "moved by hand"] = "moved by hand" if head.state == "done" else "cut short"
    return Astray(model=head.model, alias=head.alias, seq=head.seq, cause=cause, version=head.version, found=found)


def _heal(lost: Astray, *, ledger: Ledger, registry: Registry, audit: AuditLog, actor: str) -> Healed:
    if lost.cause == "moved by hand":
        facts = {"ledger": lost.version, "registry": lost.found, "seq": lost.seq}
        audit.append(actor, "alias.drift", f"{lost.model}/{lost.alias}", facts)
    problem = None
    try:
        project(lost.model, lost.alias, ledger=ledger, registry=registry, actor=actor)
    except ZebraError as error:
        problem = error.message
    return Healed(**lost.model_dump(), problem=problem)
