"""`mlops gc`: a table of what the object store holds for nothing, and with --yes its removal."""

import click

from zebra_assets.cli.verb import Call, verb


@verb()
@click.option("--yes", is_flag=True, help="Remove what is found; without it nothing is changed.")
@click.option(
    "--grace", type=click.FloatRange(min=1), default=24, show_default=True, metavar="HOURS", help="Leave alone what is younger than this."
)
def gc(call: Call, yes: bool, grace: float) -> None:
    """Find blobs that no manifest, asset or report names, and uploads and files that killed writers left.

    Safe beside a running ingest. A dry run unless --yes is given. HOURS must exceed what your longest ingest takes.
    """
    from datetime import timedelta

    from zebra_assets.control import gc as control

    with call.progress("gc") as tick:
        tick("looking")
        swept = control.gc(call.parts, grace=timedelta(hours=grace), remove=yes)

    def show() -> None:
        from zebra_assets.cli.show import say, table

        table(["", "count", "bytes", "they"], [[p.what, p.count, p.bytes, p.fate] for p in swept.piles])
        if call.verbose:
            for key in swept.keys:
                say(key, "dim")
        if not swept.keys:
            say(f"{swept.store} holds nothing in vain.")
        elif not yes:
            say("Nothing was changed. To remove them: mlops gc --yes", "bold")

    call.answer(swept, show)
