"""`label`: what became of the things predicted."""

from pathlib import Path

import click

from zebra_assets.cli.verb import Call, Name, verb


@verb()
@click.argument("model", type=Name("model"))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def label(call: Call, model: str, file: Path) -> None:
    """Store the true labels of MODEL's predictions from the CSV FILE.

    Its columns: event_id as /predict answered it (or request_id, for requests of one row), label (or the label column's
    name in the dataset), and ts where it is known since when the label is known. Sending a file again changes nothing;
    another label for a prediction corrects the one before.
    """
    from zebra_assets.control import labels

    done = labels.label(call.parts, model, file)

    def show() -> None:
        from zebra_assets.cli.show import say

        say(f"{done.rows:,} labels of '{model}', {done.new:,} of them news.", "bold")
        if done.waiting:
            say(f"{done.waiting:,} name no prediction that was captured; they wait for it.", "yellow")

    call.answer({"model": model, "rows": done.rows, "new": done.new, "waiting": done.waiting}, show)
