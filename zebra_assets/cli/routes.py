"""`mlops route show | set | canary | stop | verdict`: who answers a model's requests beside its champion, and how good they are."""

from typing import Any

import click

from zebra_assets.cli.verb import Call, Name, common_options, verb

MODEL = click.argument("model", type=Name("model"))
ALIAS = click.option("--alias", type=Name("alias"), default="prod", show_default=True, help="Whose server: prod or staging.")
REASON = click.option("--reason", default="", help="Why, for the log and the audit log.")
STICKY = click.option("--sticky", metavar="WHAT", help="What keeps its arm: column:NAME or header:NAME. Default: each request is drawn.")
FORCE = click.option("--force-header", metavar="NAME", help="A request may name its arm in this header, e.g. X-Model-Experiment.")
ALPHA = click.option("--alpha", type=click.FloatRange(0.0001, 0.5), default=0.05, show_default=True, help="Error rate of the verdict.")
MARGIN = click.option("--margin", type=click.FloatRange(0, 0.99), default=0.0, show_default=True, help="Least gain worth a promotion.")


@click.group()
@common_options
def route(**_: Any) -> None:
    """Share a model's requests between its champion (what the alias names) and candidates.

    Running servers follow within a second. Nothing here moves an alias: that is `mlops promote`.
    """


@verb()
@MODEL
@ALIAS
def show(call: Call, model: str, alias: str) -> None:
    """Show MODEL's route, what servers saw of each arm, the newest verdict, and the log."""
    from zebra_assets.control import routes

    shown = routes.show(call.parts, model, alias)
    call.answer(vars(shown), lambda: _show(shown))


@verb("set")
@MODEL
@click.argument("shares", nargs=-1, metavar="[VERSION=10%]...")
@click.option("--shadow", "shadows", multiple=True, metavar="VERSION=10%", help="Ask it too and compare; its answers are not given.")
@STICKY
@FORCE
@ALIAS
@REASON
def set_(call: Call, model: str, shares: tuple[str, ...], shadows: tuple[str, ...], **how: Any) -> None:
    """Give each VERSION a share of MODEL's requests; the champion has the rest.

    A version is a number, NAME:NUMBER to call it something, or an alias (the version it names now). One that answers requests
    must have passed the gate; a shadow need not.
    """
    from zebra_assets.control import routes
    from zebra_assets.errors import UsageError

    if not shares and not shadows:
        raise UsageError("No version was named.", fix=f"mlops route set {model} 2=10%, or mlops route stop {model}")
    _changed(call, routes.share(call.parts, model, shares, shadows, **how))


@verb()
@MODEL
@click.argument("version")
@click.option("--step", "steps", multiple=True, metavar="10%x60", help="Weight x minutes. Default: 1%x10 10%x30 50%x60 100%.")
@click.option("--max-errors", default=0.01, show_default=True, help="Greatest share of requests that it fails and the champion answers.")
@click.option("--max-p99-ms", type=float, help="Slowest 99th percentile inside the server.")
@click.option("--min-requests", default=100, show_default=True, help="Fewer say nothing about the latency.")
@click.option("--verdict/--no-verdict", default=True, show_default=True, help="Whether a verdict 'keep' on labels sends it back.")
@ALPHA
@MARGIN
@click.option("--shadow", metavar="10%", help="Also ask it in the shadow about this share.")
@STICKY
@FORCE
@ALIAS
@REASON
def canary(
    call: Call,
    model: str,
    version: str,
    steps: tuple[str, ...],
    max_errors: float,
    max_p99_ms: float | None,
    min_requests: int,
    verdict: bool,
    alpha: float,
    margin: float,
    **how: Any,
) -> None:
    """Ramp VERSION of MODEL up by schedule; it goes back by itself on errors, latency or a verdict 'keep'."""
    from pydantic import ValidationError

    from zebra_assets.contracts.route import Guards
    from zebra_assets.control import routes
    from zebra_assets.errors import UsageError

    try:
        guards = Guards(errors=max_errors, p99_ms=max_p99_ms, verdict=verdict, alpha=alpha, margin=margin, min_requests=min_requests)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"The canary's {first['loc'][0]}: {first['msg']}.", fix="mlops route canary --help") from error
    _changed(call, routes.canary(call.parts, model, version, steps or ("1%x10", "10%x30", "50%x60", "100%"), guards, **how))


@verb()
@MODEL
@ALIAS
@REASON
def stop(call: Call, model: str, alias: str, reason: str) -> None:
    """Give all of MODEL's requests to the champion."""
    from zebra_assets.control import routes

    _changed(call, routes.stop(call.parts, model, alias, reason))


@verb()
@MODEL
@click.option("--metric", type=click.Choice(["brier", "accuracy", "error"]), help="Default: brier where there are scores.")
@click.option("--alpha", type=click.FloatRange(0.0001, 0.5), help="Error rate; default the canary's, else 0.05.")
@click.option("--margin", type=click.FloatRange(0, 0.99), help="Least gain worth a promotion; default the canary's, else 0.")
@ALIAS
def verdict(call: Call, model: str, metric: str | None, alpha: float | None, margin: float | None, alias: str) -> None:
    """Say from labelled outcomes whether MODEL's candidate is better: promote, keep, or about how many labels more.

    May be asked after every label: a wrong promote, or a wrong keep, has a chance of alpha / 2 each, over all looks together.
    """
    from zebra_assets.control import routes

    found = routes.verdict(call.parts, model, alias, metric, alpha=alpha, margin=margin)

    def see() -> None:
        from zebra_assets.cli.show_routes import verdicts

        verdicts(found)

    call.answer({"verdicts": found}, see)


def _changed(call: Call, changed: Any) -> None:
    def see() -> None:
        from zebra_assets.cli.show_routes import in_force

        in_force(changed)

    call.answer({"route": changed}, see)


def _show(shown: Any) -> None:
    from zebra_assets.cli.show_routes import route_page

    route_page(shown)


for _command in (show, set_, canary, stop, verdict):
    route.add_command(_command)
