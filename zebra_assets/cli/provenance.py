"""`verify`, `diff` and `why`: whether data still holds, what changed, and what came of what."""

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
