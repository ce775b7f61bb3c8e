"""The verbs of routing: from a person's words (a version, an alias, `10%`, `1%x10 50%x60`) to the route station.

Knows no click; `cli/routes` shows what this returns.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pydantic import ValidationError

from zebra_assets import loop
from zebra_assets.contracts.arm import ArmTally, by_arm
from zebra_assets.contracts.names import VERSION, check_name
from zebra_assets.contracts.route import Guards, Route, Step, Sticky, Verdict
from zebra_assets.contracts.run import Run
from zebra_assets.control.operations import spec_alias
from zebra_assets.control.specs import dataset_spec, model_spec
from zebra_assets.errors import NotFound, UsageError
from zebra_assets.parts import Parts
from zebra_assets.promotion import route as station

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%")
_STEP = re.compile(r"(\d{1,3}(?:\.\d{1,6})?%)(?:x(\d{1,6}(?:\.\d{1,3})?))?")
_HEADER = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(frozen=True)
class Shown:
    """A route as it stands: what is in force, what servers saw of it by arm, the newest verdict on each candidate, the log."""

    champion: str
    route: Route | None
    arms: dict[str, ArmTally]
    verdicts: list[Verdict]
    history: list[Route]


def show(parts: Parts, model: str, alias: str = "prod") -> Shown:
    """Everything known about a model's route. Raises `NotFound` while the alias names nothing."""
    board = _board(parts, model, alias)
    champion, history = board.champion().version, parts.routes.history(model, board.alias)
    head = history[0] if history else None
    # After a rollback or a stop the figures of the route before are what one wants to see.
    began = next((row for row in history if row.kind in ("set", "canary")), None)
    arms = by_arm(parts.routes.tallies(model, board.alias, began.seq)) if began else {}
    found = [parts.routes.verdict(model, board.alias, champion, c.version) for c in (began.candidates if began else [])]
    return Shown(champion, head, arms, [verdict for verdict in found if verdict], history)


def share(
    parts: Parts,
    model: str,
    shares: Sequence[str],
    shadows: Sequence[str] = (),
    *,
    alias: str = "prod",
    sticky: str | None = None,
    force_header: str | None = None,
    reason: str = "",
) -> Route:
    """Share requests: ``shares`` and ``shadows`` are ``VERSION=10%``, or ``NAME:VERSION=10%``; a version may be called by an alias.

    Args:
        sticky: ``column:NAME`` or ``header:NAME``.

    Raises:
        UsageError: words that do not fit.
        Conflict, GateClosed, NotFound: see `promotion.route`.
    """
    board = _board(parts, model, alias)
    wanted: dict[str, list[float]] = {}
    names: dict[str, str] = {}
    for place, texts in enumerate((shares, shadows)):
        for text in texts:
            name, version, part = _pair(text)
            wanted.setdefault(version, [0.0, 0.0])[place] = part
            names[version] = name or names.get(version, "")
    alone = len(wanted) == 1
    candidates = [
        board.admit(_run(parts, model, version), name=names[version] or ("candidate" if alone else f"v{version}"), weight=w, shadow=s)
        for version, (w, s) in wanted.items()
    ]
    try:
        return station.share(board, candidates, _sticky(sticky), _header(force_header), reason)
    except ValidationError as error:
        raise _usage(error) from error


def canary(
    parts: Parts,
    model: str,
    version: str,
    steps: Sequence[str],
    guards: Guards,
    *,
    alias: str = "prod",
    shadow: str | None = None,
    sticky: str | None = None,
    force_header: str | None = None,
    reason: str = "",
) -> Route:
    """Ramp a version up: ``steps`` are ``1%x10`` for 1 % of the requests for 10 minutes; raises like `share`."""
    board = _board(parts, model, alias)
    run = _run(parts, model, version)
    candidate = board.admit(run, name="candidate", weight=1.0, shadow=_percent(shadow) if shadow else 0.0)
    ramp = [_step(text) for text in steps]
    if any(later.weight < before.weight for before, later in pairwise(ramp)):
        raise UsageError("A canary's weights do not fall.", fix="--step 1%x10 --step 10%x60 --step 50%x60")
    return station.ramp(board, candidate, ramp, guards, _sticky(sticky), _header(force_header), reason)


def stop(parts: Parts, model: str, alias: str = "prod", reason: str = "") -> Route:
    """Give all requests to the champion."""
    return station.stop(_board(parts, model, alias), reason)


def verdict(
    parts: Parts, model: str, alias: str = "prod", metric: str | None = None, *, alpha: float | None = None, margin: float | None = None
) -> list[Verdict]:
    """Judge the route's candidates by the labels that have come; see `loop.judge_route`."""
    spec = model_spec(parts, model)
    dataset = dataset_spec(parts, spec.datasets.roles()["train"])
    if dataset.label is None:
        raise UsageError(f"Dataset '{dataset.name}' declares no label.", fix=f"add label: to manifests/{dataset.name}/dataset.yaml")
    return loop.judge_route(parts, dataset, model, spec_alias(parts, model, alias), metric=metric, alpha=alpha, margin=margin)


def _board(parts: Parts, model: str, alias: str) -> station.Board:
    spec = model_spec(parts, model)
    return station.Board(spec, spec_alias(parts, model, alias), parts.routes, parts.ledger, parts.records, parts.settings.who)


def _run(parts: Parts, model: str, word: str) -> Run:
    """The run behind a version, or behind what an alias names now; a route keeps to it when the alias moves on."""
    version: str | None = word
    if not VERSION.fullmatch(word):
        head = parts.ledger.head(model, spec_alias(parts, model, word))
        version = head.version if head else None
    run = next((run for run in parts.records.runs(model, limit=10_000) if run.version == version), None) if version else None
    if run is None:
        raise NotFound(f"Model '{model}' has no version {word}.", fix=f"mlops list runs --model {model}")
    return run


def _pair(text: str) -> tuple[str, str, float]:
    before, equals, part = text.partition("=")
    name, _, version = before.rpartition(":")
    if not equals or not version:
        raise UsageError(f"'{text}' is no share.", fix="write VERSION=10%, or NAME:VERSION=10%")
    return check_name(name, "candidate") if name else "", version, _percent(part)


def _percent(text: str) -> float:
    found = _PERCENT.fullmatch(text)
    if found is None or float(found[1]) > 100:
        raise UsageError(f"'{text}' is no share of the requests.", fix="write a percentage: 10%")
    return float(found[1]) / 100


def _step(text: str) -> Step:
    found = _STEP.fullmatch(text)
    if found is None or not (weight := _percent(found[1])):
        raise UsageError(f"'{text}' is no step of a canary.", fix="write weight x minutes: 10%x60; the last one may have no minutes: 100%")
    return Step(weight=weight, minutes=float(found[2] or 0))


def _sticky(text: str | None) -> Sticky | None:
    if text is None:
        return None
    what, _, name = text.partition(":")
    if what == "column" and name:
        return Sticky(column=name)
    if what == "header" and name:
        return Sticky(header=_header(name))
    raise UsageError(f"'{text}' does not say what keeps its arm.", fix="--sticky column:customer_id, or --sticky header:X-User-Id")


def _header(name: str | None) -> str | None:
    if name is not None and not _HEADER.fullmatch(name.lower()):
        raise UsageError(f"'{name}' is no header.", fix="--force-header X-Model-Experiment")
    return name.lower() if name else None


def _usage(error: ValidationError) -> UsageError:
    said = error.errors()[0]["msg"].removeprefix("Value error, ")
    return UsageError(f"That is no route: {said}.", fix="mlops route set --help")
