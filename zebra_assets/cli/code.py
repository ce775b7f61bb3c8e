"""`mlops code show | approve | revoke`: which versions may run the code that they bring along."""

from typing import Any

import click

from zebra_assets.cli.verb import Call, Name, common_options, verb

MODEL = click.argument("model", type=Name("model"))
VERSION = click.argument("version")


@click.group()
@common_options
def code(**_: Any) -> None:
    """Let a version that brings code of its own run it, or no longer.

    Such a version is refused by evaluations and servers until somebody approves its very bytes. The word is an entry of the audit
    log. Approved code runs in a fenced process of its own.
    """


@verb()
@MODEL
@VERSION
def show(call: Call, model: str, version: str) -> None:
    """Show what VERSION of MODEL would run, who trained it, and the newest word on it."""
    from zebra_assets.control import code as station

    seen = station.show(call.parts, model, version)

    def see() -> None:
        from zebra_assets.cli.show import say, table

        trainer = seen.trained_by or "somebody the audit log does not know"
        say(f"{seen.model} v{seen.version}, run {seen.run_id}, trained by {trainer}", "bold")
        say(f"digest {seen.model_digest}")
        table(["file", "bytes"], [[name, size] for name, size in seen.files.items()])
        if seen.approval is None:
            say(f"Not approved: mlops code approve {model} {version} --reason WHY", "bold")
        else:
            _say(seen.approval)

    call.answer({**vars(seen)}, see)


@verb()
@MODEL
@VERSION
@click.option("--reason", required=True, help="Why, for the audit log: what you have read.")
def approve(call: Call, model: str, version: str, reason: str) -> None:
    """Let VERSION of MODEL run its own code, byte for byte as it is now. Read it first: mlops code show."""
    from zebra_assets.control import code as station

    word = station.approve(call.parts, model, version, reason)
    call.answer({"approval": word}, lambda: _say(word))


@verb()
@MODEL
@VERSION
@click.option("--reason", default="", help="Why, for the audit log.")
def revoke(call: Call, model: str, version: str, reason: str) -> None:
    """Take the approval back. Servers refuse VERSION at its next load; what runs now goes on until the alias moves."""
    from zebra_assets.control import code as station

    word = station.revoke(call.parts, model, version, reason)
    call.answer({"approval": word}, lambda: _say(word))


def _say(word: Any) -> None:
    from zebra_assets.cli.show import say

    what, style = ("approved", "bold green") if word.granted else ("revoked", "bold red")
    why = f": {word.reason}" if word.reason else ""
    at = f"{word.created_at:%Y-%m-%d %H:%M} UTC"
    say(
        f"code of {word.model} v{word.version} ({word.model_digest[:16]}) {what} by {word.actor} at {at}{why} (audit entry {word.seq})",
        style,
    )


for command in (show, approve, revoke):
    code.add_command(command)
