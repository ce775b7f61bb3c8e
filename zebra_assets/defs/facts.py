"""Nouns as Dagster shows them: metadata a person wants to see on a materialisation. Nothing here decides anything."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import Run
from zebra_assets.contracts.verdicts import DriftReport, EvalReport, GateDecision

if TYPE_CHECKING:  # its room imports numpy and arrow
    from zebra_assets.datasets.validate import Check

Facts = dict[str, Any]
_MAX_INLINE_PNG = 50_000  # bytes; metadata rests in the event log, one row per materialisation


def _table(header: list[str], rows: list[list[object]]) -> dg.MarkdownMetadataValue:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(_cell(c) for c in row)} |" for row in rows]
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value).replace("|", "\\|")


def _picture(png: bytes | None) -> Facts:
    """A plot as metadata, where it is small enough."""
    if png is None or len(png) > _MAX_INLINE_PNG:
        return {}
    return {"plot": dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})")}


def of_manifest(manifest: Manifest) -> Facts:
    """Rows, schema, splits and where the rows rest."""
    schema = manifest.columns
    return {
        "dagster/row_count": manifest.stats.rows,
        "dagster/column_schema": dg.TableSchema(
            columns=[dg.TableColumn(c.name, c.dtype, constraints=dg.TableColumnConstraints(nullable=c.nullable)) for c in schema.columns]
        ),
        "manifest id": manifest.id,
        "label": schema.label.column if schema.label else "none",
        "splits": _table(["split", "rows", "blobs", "bytes"], [list(s) for s in manifest.split_sizes()]),
        "missing": _table(["column", "null fraction"], [[c, f] for c, f in manifest.stats.null_fraction.items() if f > 0]),
        "source": f"{manifest.source.connector}: {manifest.source.location}",
        "content digest": manifest.hashes.content,
    }


def of_checks(checks: "Sequence[Check]") -> Facts:
    """Which rules were broken, and how many were asked."""
    broken = [[c.column or "(table)", c.rule, c.count, c.detail] for c in checks if not c.passed]
    shown = {"broken": _table(["column", "rule", "rows", "what was seen"], broken)} if broken else {}
    return {"rules": len(checks), **shown}


def of_rules(checks: "Sequence[Check]") -> Facts:
    """Every rule and how it went, the broken ones first."""
    ordered = sorted(checks, key=lambda check: check.passed)
    rows: list[list[object]] = [[c.column or "(table)", c.rule, _went(c), c.detail] for c in ordered]
    return {"rules": len(checks), "every rule": _table(["column", "rule", "", "what was seen"], rows)}


def _went(check: "Check") -> str:
    return "held" if check.passed else f"broken by {check.count:,}" if check.count else "broken"


def of_run(run: Run, *, mlflow_url: str | None, reused: bool) -> Facts:
    """What trained on what, and the numbers the script reported."""
    facts: Facts = {
        "run id": run.id,
        "model version": run.version,
        "metrics": _table(["metric", "value"], [[k, v] for k, v in sorted(run.metrics.items())]),
        "params": dg.MetadataValue.json(dict(run.params)),
        "code": run.code.digest[:16] + (" (dirty)" if run.code.dirty else ""),
        "commit": run.code.commit or "none",
        "spec digest": run.spec_digest[:16],
        "environment": (run.environment or "")[:16],
        "reused": dg.MetadataValue.bool(reused),
    }
    if mlflow_url:
        facts["mlflow"] = dg.MetadataValue.url(mlflow_url)
    return facts


def of_report(report: EvalReport, png: bytes | None = None) -> Facts:
    """Candidate beside champion on the same rows; ``png`` is shown where it is small enough."""
    champion = report.champion.metrics if report.champion else {}
    rows: list[list[object]] = []
    for name, value in report.candidate.metrics.items():
        low, high = report.candidate.intervals.get(name, (None, None))
        rows.append([name, value, low, high, champion.get(name)])
    prod = f"prod v{report.champion.version}" if report.champion else "prod"
    return {
        "scores": _table(["metric", f"v{report.candidate.version}", "low", "high", prod], rows),
        **_picture(png),
        **({"report": _link(report.html_uri)} if report.html_uri else {}),
        "rows": report.rows,
        "split": report.split,
        **{f"metric/{name}": value for name, value in report.candidate.metrics.items()},
    }


def of_decision(decision: GateDecision) -> Facts:
    """The verdict, rule by rule."""
    return {
        "allowed": dg.MetadataValue.bool(decision.allowed),
        "reasons": dg.MetadataValue.md("\n".join(f"- {r}" for r in decision.reasons)),
        "rules": _table(
            ["rule", "passed", "value", "bound"], [[r.name, "yes" if r.passed else "**no**", r.value, r.bound] for r in decision.rules]
        ),
    }


def of_promotion(promotion: Promotion) -> Facts:
    """Which alias moved from where to where, and who moved it."""
    return {
        "alias": promotion.alias,
        "moved": f"v{promotion.from_version or '–'} → v{promotion.version}",
        "ledger seq": promotion.seq,
        "decision": promotion.decision_id,
        "actor": promotion.actor,
    }


def of_drift(report: DriftReport) -> Facts:
    """The verdict on a window and the columns behind it."""
    worst = sorted(report.columns, key=lambda c: -c.score)[:15]
    facts: Facts = {
        "state": report.state,
        "reason": report.reason,
        "recommendation": report.recommendation,
        "window rows": report.rows,
        "window read from": report.source,
        "columns": _table(
            ["column", "score", "threshold", "drifted"], [[c.column, c.score, c.threshold, "**yes**" if c.drifted else "no"] for c in worst]
        ),
    }
    if report.not_watched:
        facts["not watched"] = ", ".join(sorted(report.not_watched))
    if report.score is not None:
        facts["drift score"] = report.score
    if report.html_uri:
        facts["report"] = _link(report.html_uri)
    return facts


def _link(uri: str) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.url(uri) if uri.startswith("http") else dg.MetadataValue.path(uri)


def tags_of(kind: str, name: str) -> Mapping[str, str]:
    """The tag that concurrency limits and searches go by; asset tags do not become run tags, so runs carry it too."""
    return {f"zebra/{kind}": name}
