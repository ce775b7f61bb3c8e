"""`mlops why`: from one id, what it came of and what came of it. Changes nothing.

Every link is a field of a noun that rests already, so nothing is recorded for this page alone:

    source -> manifest (-> bundle) -> run -> version -> report -> decision -> move of an alias -> drift report
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from zebra_assets.contracts.manifest import Bundle, Manifest
from zebra_assets.contracts.names import MANIFEST_ID
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import Run
from zebra_assets.contracts.verdicts import DriftReport, EvalReport, GateDecision
from zebra_assets.control.specs import model_spec
from zebra_assets.errors import NotFound, ZebraError, did_you_mean
from zebra_assets.parts import Parts

ALL = 1_000_000  # runs or drift reports: all there are


@dataclass(frozen=True)
class Link:
    """One thing in a lineage: its kind and id, what is known of it, and what follows in the direction of the walk."""

    kind: str
    id: str
    facts: dict[str, Any] = field(default_factory=dict)
    links: "list[Link]" = field(default_factory=list)


@dataclass(frozen=True)
class Lineage:
    """One thing, back to its sources and on to what came of it."""

    of: Link
    came_of: list[Link]
    led_to: list[Link]


def why(parts: Parts, asked: str) -> Lineage:
    """The lineage of a manifest, bundle, run, report, decision or drift report id, of ``model:version`` or ``model@alias``.

    Raises:
        NotFound: nothing has that id; the message knows the nearest.
    """
    walk = _Walk(parts)
    found = walk.find(asked)
    if found is None:
        raise NotFound(f"Nothing here is called '{asked}'.{did_you_mean(asked, walk.known())}", fix="mlops list runs; mlops list datasets")
    return Lineage(_link(found), walk.back(found), walk.on(found))


class _Walk:
    """Reads each thing once on the way."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.runs = parts.records.runs(None, limit=ALL)
        heads = parts.ledger.heads()
        self.moves = [row for head in heads for row in reversed(parts.ledger.history(head.model, head.alias))]
        self.heads = {(head.model, head.alias): head for head in heads}
        self.bundles = [bundle for model in sorted({run.model for run in self.runs}) for bundle in parts.manifests.bundles(model)]

    def find(self, asked: str) -> "Noun | None":
        """The noun that an id names."""
        if "@" in asked:
            model, _, alias = asked.partition("@")
            return self.heads.get((model, alias))
        if ":" in asked:
            model, _, version = asked.partition(":")
            return next((run for run in self.runs if (run.model, run.version) == (model, version)), None)
        records = self.parts.records
        found = records.run(asked) or records.report(asked) or records.decision(asked) or records.drift(asked)
        return found or next((b for b in self.bundles if b.id == asked), None) or self._manifest(asked)

    def known(self) -> list[str]:
        """Everything that could have been asked for."""
        versions = [f"{run.model}:{run.version}" for run in self.runs if run.version]
        aliases = [f"{model}@{alias}" for model, alias in self.heads]
        manifests = [m.id for m in self.parts.manifests.list()]
        return [*aliases, *versions, *manifests, *(b.id for b in self.bundles), *self.parts.records.ids()]

    def back(self, noun: Noun) -> list[Link]:
        """What a thing came of, each with what that came of."""
        return [_link(one, self.back(one)) for one in self._parents(noun)] or self._source(noun)

    def on(self, noun: Noun) -> list[Link]:
        """What came of a thing, each with what came of that."""
        return [_link(one, self.on(one)) for one in self._children(noun)]

    def _parents(self, noun: Noun) -> Iterator[Noun]:
        match noun:
            case Bundle():
                yield from self._manifests(noun.roles.values())
            case Run():
                bundle = next((b for b in self.bundles if b.id == noun.manifest_id), None)
                yield from [bundle] if bundle else self._manifests(noun.roles.values())
            case EvalReport():
                yield from self._some(self.parts.records.run(noun.run_id))
            case GateDecision():
                # Judged again, a report keeps its id or is a newer one; the decision names the one it read.
                yield from self._some(self.parts.records.report(noun.report_id) or self.parts.records.run(noun.run_id))
            case Promotion():
                yield from self._some(self.parts.records.decision(noun.decision_id) or self.parts.records.run(noun.run_id))
            case DriftReport():
                watched = (noun.model, self._prod(noun.model), noun.version)
                moves = [m for m in self.moves if (m.model, m.alias, m.version) == watched and m.created_at <= noun.created_at]
                yield from self._some(max(moves, key=lambda m: m.created_at, default=None))

    def _children(self, noun: Noun) -> Iterator[Noun]:
        match noun:
            case Manifest():
                holding = [b for b in self.bundles if noun.id in b.roles.values()]
                yield from holding
                bundled = {b.id for b in holding}
                yield from (r for r in reversed(self.runs) if noun.id in r.roles.values() and r.manifest_id not in bundled)
            case Bundle():
                yield from (r for r in reversed(self.runs) if r.manifest_id == noun.id)
            case Run():
                about = self.parts.records.about(noun.id)
                reports = {one.id for one in about if isinstance(one, EvalReport)}
                yield from (one for one in about if isinstance(one, EvalReport) or one.report_id not in reports)
            case EvalReport():
                about = self.parts.records.about(noun.run_id)
                yield from (one for one in about if isinstance(one, GateDecision) and one.report_id == noun.id)
            case GateDecision():
                yield from (m for m in self.moves if m.decision_id == noun.id)
            case Promotion():
                yield from self._while(noun)

    def _while(self, move: Promotion) -> Iterator[Noun]:
        """What was seen until the alias moved on, and the move that ended it."""
        after = next((m for m in self.moves if (m.model, m.alias, m.seq) == (move.model, move.alias, move.seq + 1)), None)
        for _, report in self.parts.records.drifts(move.model, limit=ALL):
            if report.version == move.version and next(self._parents(report), None) == move:
                yield report
        if after is not None:
            yield _Ended(move=after)

    def _prod(self, model: str) -> str:
        """The alias that is monitored."""
        try:
            return model_spec(self.parts, model).promotion.alias_prod
        except ZebraError:  # the spec is gone or broken; its history is not
            return "prod"

    def _manifests(self, ids: Any) -> Iterator[Manifest]:
        for one in dict.fromkeys(ids):
            yield from self._some(self._manifest(one))

    def _manifest(self, name: str) -> Manifest | None:
        try:
            return self.parts.manifests.get(name) if MANIFEST_ID.fullmatch(name) else None
        except NotFound:
            return None

    def _some(self, noun: Any) -> Iterator[Any]:
        if noun is not None:
            yield noun

    def _source(self, noun: Noun) -> list[Link]:
        """Where a manifest's rows came from, and who asked for them when."""
        if not isinstance(noun, Manifest):
            return []
        entries = self.parts.audit.entries(subject=noun.id, action="dataset.ingested")
        said = [entry.said() for entry in entries]
        asked = [{"by": one["actor"], "at": one["ts"], **one["facts"]} for one in said]
        source = noun.source.model_dump(mode="json", exclude={"location"})
        return [Link("source", noun.source.location, {**source, "ingested": asked})]


class _Ended(Noun):
    """A later move, told as the end of an earlier one: not walked on from, or every history would be told again inside itself."""

    move: Promotion


def _link(noun: Noun, links: list[Link] | None = None) -> Link:
    """A noun as people and programs read it."""
    if isinstance(noun, _Ended):
        return Link("ended by", _id(noun.move), _facts(noun.move))
    kinds = {EvalReport: "report", GateDecision: "decision", DriftReport: "drift report", Promotion: "promotion"}
    kind = noun.kind if isinstance(noun, Promotion) else kinds.get(type(noun), type(noun).__name__.lower())
    return Link(kind, _id(noun), _facts(noun), links or [])


def _id(noun: Any) -> str:
    return f"{noun.model}@{noun.alias} #{noun.seq}" if isinstance(noun, Promotion) else noun.id


def _facts(noun: Any) -> dict[str, Any]:
    """What is worth knowing of a thing, without what its neighbours say already."""
    match noun:
        case Manifest():
            return {"rows": noun.stats.rows, "content": noun.hashes.content, "created_at": noun.created_at}
        case Bundle():
            return {"roles": noun.roles}
        case Run():
            left_out = {"id", "metrics", "ended_at", "attempt", "roles"}
            return noun.model_dump(exclude=left_out, exclude_none=True) | {"metrics": dict(list(noun.metrics.items())[:5])}
        case EvalReport():
            shown = {"version": noun.candidate.version, "beside": noun.champion.version if noun.champion else None}
            return {**shown, "split": noun.split, "rows": noun.rows, "metrics": noun.candidate.metrics, "created_at": noun.created_at}
        case GateDecision():
            return {"version": noun.version, "allowed": noun.allowed, "reasons": noun.reasons, "created_at": noun.created_at}
        case Promotion():
            return noun.model_dump(include={"version", "from_version", "actor", "reason", "state", "created_at"})
        case _:
            return dict(noun.model_dump(include={"version", "state", "score", "rows", "reason", "created_at"}))
