"""`ingest`, `list` and `show`: rows, manifests, and what the project holds."""

from typing import Any

import click

from zebra_assets.cli.verb import Call, Name, verb


@verb()
@click.argument("dataset", type=Name("dataset"))
def ingest(call: Call, dataset: str) -> None:
    """Read DATASET's source, check it, and commit an immutable manifest. The same rows give the same manifest."""
    with call.progress(f"ingest {dataset}") as tick:
        from zebra_assets.control import operations

        done = operations.ingest(call.parts, dataset, tick)
    m, warnings = done.manifest, [check for check in done.checks if not check.passed]

    def show() -> None:
        from zebra_assets.cli.show import say, table
        from zebra_assets.control import queries

        reader = next((row.name for row in queries.models(call.parts) if dataset in row.datasets), "MODEL")
        what = "new manifest" if done.created else "same rows, same manifest" if done.read else "unchanged source, same manifest"
        say(f"{what} {m.id}", "bold")
        table(["split", "rows", "blobs", "bytes"], [list(s) for s in m.split_sizes()])
        for check in warnings:
            say(f"warning: {f'column {check.column!r}' if check.column else 'table'}: {check.rule}: {check.detail}", "yellow")
        stored = f", {done.stored:,} new bytes stored" if done.created else ""
        say(f"{m.stats.rows:,} rows, {len(m.columns.columns)} columns, {done.seconds:.1f} s{stored}. Next: mlops train {reader}")

    answer = {"manifest": m, "created": done.created, "read": done.read, "stored_bytes": done.stored, "seconds": done.seconds}
    call.answer(answer | {"warnings": warnings}, show)


@verb("list")
@click.argument("what", type=click.Choice(["models", "datasets", "runs"]))
@click.option("--model", type=Name("model"), help="Only this model's runs.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many runs.")
def list_(call: Call, what: str, model: str | None, limit: int) -> None:
    """List models, datasets or runs."""
    if what == "models":
        _models(call)
    elif what == "datasets":
        _datasets(call)
    else:
        _runs(call, model, limit)


def _models(call: Call) -> None:
    from zebra_assets.control import queries

    rows = queries.models(call.parts)

    def show() -> None:
        from zebra_assets.cli.show import say, table

        cells = [
            [r.name, r.type, ", ".join(r.datasets), r.owner, r.spec_digest and r.spec_digest[:12], _latest(r.latest_run), r.prod, r.staging]
            for r in rows
        ]
        columns = ["model", "type", "datasets", "owner", "spec", "latest run", "prod", "staging"]
        table(columns, cells, empty="no models yet: mlops init my-model writes one")
        for row in rows:
            if row.problem:
                say(row.problem, "red")

    call.answer({"models": rows}, show)


def _latest(run: Any) -> str | None:
    return f"{run.id} ({run.state})" if run else None


def _datasets(call: Call) -> None:
    from zebra_assets.control import queries

    rows = queries.datasets(call.parts)

    def show() -> None:
        from zebra_assets.cli.show_data import datasets

        datasets(rows)

    call.answer({"datasets": rows}, show)


def _runs(call: Call, model: str | None, limit: int) -> None:
    from zebra_assets.control import queries

    rows = queries.runs(call.parts, model, limit)

    def show() -> None:
        from zebra_assets.cli.show import table

        cells = [[r.id, r.model, r.state, r.version, r.manifest_id, _first_metrics(r), f"{r.created_at:%Y-%m-%d %H:%M}"] for r in rows]
        table(["run", "model", "state", "version", "manifest", "metrics", "started (UTC)"], cells, empty="no runs yet: mlops train MODEL")

    call.answer({"runs": rows}, show)


def _first_metrics(run: Any) -> str | None:
    return ", ".join(f"{name} {value:.4g}" for name, value in list(run.metrics.items())[:3]) or None


@verb()
@click.argument("manifest_id", type=Name("manifest"), metavar="MANIFEST")
def show(call: Call, manifest_id: str) -> None:
    """Show MANIFEST: where its rows came from and who asked for them, its splits and its columns' summaries."""
    from zebra_assets.control import lineage

    told = lineage.told(call.parts, manifest_id)

    def show_it() -> None:
        from zebra_assets.cli.show_data import manifest

        manifest(told)

    call.answer({"manifest": told.manifest, "ingests": told.ingests}, show_it)
