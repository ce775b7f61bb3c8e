"""`verify`, `diff` and `why`: whether data still holds, what changed, and what came of what."""

from pathlib import Path
from typing import Any

import click

from zebra_assets.cli.verb import Call, Name, verb


@verb()
@click.argument("manifest_id", type=Name("manifest"), metavar="MANIFEST")
@click.option("--bytes-only", is_flag=True, help="Hash the blobs only; do not read the rows into memory.")
def verify(call: Call, manifest_id: str, bytes_only: bool) -> int:
    """Re-hash everything MANIFEST names in the object store, and its content digest from the rows. Exit code 10: it differs."""
    from zebra_assets.control import lineage
    from zebra_assets.errors import Refused

    said = lineage.verify(call.parts, manifest_id, rows=not bytes_only)

    def show() -> None:
        from zebra_assets.cli.show import say, table, verdict

        rows = [
            [b.split, b.digest[:12], b.found and b.found[:12], verdict(b.ok, "ok", "DIFFERS" if b.found else "MISSING")]
            for b in checked.blobs
        ]
        content = checked.content_found and checked.content_found[:12]
        told = checked.content_found in (None, checked.content)
        rows.append(["content", checked.content[:12], content, checked.reason if content is None else verdict(told, "ok", "DIFFERS")])
        table(["split", "digest", "found", ""], rows)
        if checked.ok:
            say(f"{checked.manifest_id} holds.", "bold green")
        else:
            say(f"{checked.manifest_id} does not hold.", "bold red")
            click.echo(f"{click.style('  fix: ', fg='green', bold=True)}{said.fix}", err=True)

    checked = said.verification
    call.answer({"verification": checked, "ok": checked.ok, "fix": said.fix}, show)
    return 0 if checked.ok else Refused.exit_code


@verb()
@click.argument("before", type=Name("manifest"))
@click.argument("after", type=Name("manifest"))
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write a page of it to FILE.")
def diff(call: Call, before: str, after: str, page: Path | None) -> None:
    """Show what changed from manifest BEFORE to AFTER: rows by key, cells, definitions and distributions."""
    from zebra_assets.adapters.diff_page import diff_html
    from zebra_assets.control import lineage

    found = lineage.diff(call.parts, before, after)
    if page is not None:
        _write(page, diff_html(found))
    call.answer({"diff": found, "html": page and str(page)}, lambda: _show_diff(found))


def _write(page: Path, text: str) -> None:
    from zebra_assets.errors import UsageError

    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{page} cannot be written: {error.strerror}.", fix="--html diff.html") from error


def _show_diff(found: Any) -> None:
    from zebra_assets.adapters.diff_page import cells_of, key_of, moved_first, sentence
    from zebra_assets.cli.show import say, table, verdict

    say(f"{found.before} -> {found.after}: {sentence(found)}", "bold")
    splits = list(dict.fromkeys([*found.splits_before, *found.splits_after]))
    rows = [[name, found.splits_before.get(name), found.splits_after.get(name)] for name in splits]
    table(["split", "rows before", "rows after"], [*rows, ["all", found.rows_before, found.rows_after]])
    for one in found.definitions:
        say(f"{one.what} was {one.before}, is {one.after}", "yellow")
    cells: list[list[Any]] = []
    for c in moved_first(found):
        dtype = c.after if c.before == c.after else f"{c.before or 'absent'} -> {c.after or 'absent'}"
        cells.append([c.name, dtype, c.cells, c.nulls_before, c.nulls_after, c.psi, c.js, verdict(not c.shifted, "", "SHIFTED")])
    table(["column", "dtype", "changed cells", "missing before", "after", "psi", "js", ""], cells)
    if found.examples:
        key = "key" if found.by == "key" else "first cells"
        table(["row", key, "was -> is"], [[e.kind, key_of(e), cells_of(e) or None] for e in found.examples])


@verb()
@click.argument("what", metavar="ID")
def why(call: Call, what: str) -> None:
    """Show what ID came of and what came of it.

    ID is that of a manifest, bundle, run, report, decision or drift report, or MODEL:VERSION, or MODEL@ALIAS.
    """
    from zebra_assets.control import ancestry

    found = ancestry.why(call.parts, what)

    def show() -> None:
        from zebra_assets.cli.show import lineage

        lineage(found)

    call.answer(found, show)
