"""`mlops token create | list | revoke`: who may ask the server what, and until when."""

from datetime import timedelta
from typing import Any

import click

from zebra_assets.cli.verb import Call, Name, common_options, verb

_SCOPES = ("predict", "read", "operate", "train")


@click.group()
@common_options
def token(**_: Any) -> None:
    """Make, list and revoke the server's bearer tokens.

    Scopes: predict asks for predictions, read sees /model, /metrics and the interface, operate changes what the server does,
    train asks the training service for a run.
    A running server knows a new or revoked token within a second. Once there is a file of tokens, every caller needs one.
    """


@verb()
@click.argument("name", type=Name("token"))
@click.option(
    "--scope", "scopes", type=click.Choice(_SCOPES), multiple=True, default=("predict",), show_default=True, help="May be repeated."
)
@click.option("--days", type=click.FloatRange(min=0, min_open=True), default=90, show_default=True, help="Good for this long.")
@click.option("--forever", is_flag=True, help="Never expires.")
def create(call: Call, name: str, scopes: tuple[Any, ...], days: float, forever: bool) -> None:
    """Make a token and print its secret, this once."""
    from zebra_assets.control import tokens

    made = tokens.create(call.parts, name, scopes, None if forever else timedelta(days=days))

    def show() -> None:
        from zebra_assets.cli.show import say

        until = made.token.expires_at
        say(f"Token '{name}' may {', '.join(made.token.scopes)}{f' until {until:%Y-%m-%d %H:%M} UTC' if until else ''}.", "bold")
        click.echo(made.secret)
        call.note("It is not shown again. curl -H 'Authorization: Bearer SECRET' …")

    call.answer({"secret": made.secret, **tokens.shown(made.token)}, show)


@verb("list")
def list_(call: Call) -> None:
    """Show the tokens, without their secrets."""
    from zebra_assets.control import tokens

    known = [tokens.shown(t) for t in tokens.book(call.settings).tokens()]

    def show() -> None:
        from zebra_assets.cli.show import say, table

        if not known:
            say("No tokens. Make one: mlops token create NAME --scope predict")
            return
        columns = ["name", "scopes", "state", "expires_at", "created_at", "created_by"]
        table([c.replace("_", " ") for c in columns], [[", ".join(t["scopes"]) if c == "scopes" else t[c] for c in columns] for t in known])

    call.answer(known, show)


@verb()
@click.argument("name", type=Name("token"))
def revoke(call: Call, name: str) -> None:
    """Make a token worthless at once."""
    from zebra_assets.control import tokens

    revoked = tokens.revoke(call.parts, name)

    def show() -> None:
        from zebra_assets.cli.show import say

        say(f"Token '{name}' is revoked; a running server knows within a second.", "bold")

    call.answer(tokens.shown(revoked), show)


for command in (create, list_, revoke):
    token.add_command(command)
