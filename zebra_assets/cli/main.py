"""`mlops`: the front door. A static table of commands, and one place where every failure becomes words and an exit code.

Nothing heavier than click is imported until a command runs: `mlops --help` answers from the table, and
`mlops <command> --help` imports that command's module only (docs/adr/0002). A new command is one function decorated with
`verb` and one line here.

With `--json` every command prints exactly one JSON document on stdout: its result, or
``{"error": {"type", "message", "fix", "exit_code"}}``. Progress and logs never share stdout.
"""

import errno
import gc
import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from zebra_assets.cli.verb import common_options
from zebra_assets.errors import ZebraError

_HERE = "zebra_assets.cli"
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Start": {
        "demo": (f"{_HERE}.demo:demo", "Walk the whole loop once, on real data, with numbers."),
        "init": (f"{_HERE}.init:init", "Write a new project, or prepare this one's stores."),
        "doctor": (f"{_HERE}.doctor:doctor", "Look at everything that can be wrong and say how to mend it."),
        "up": (f"{_HERE}.stack:up", "Start Dagster, MLflow and the server (--lite: without Docker)."),
        "down": (f"{_HERE}.stack:down", "Stop what `up` started."),
    },
    "The loop": {
        "ingest": (f"{_HERE}.data:ingest", "Read a dataset's source and commit its manifest."),
        "train": (f"{_HERE}.models:train", "Train a candidate on a manifest."),
        "eval": (f"{_HERE}.models:evaluate", "Score a run beside prod on held-out rows; the gate decides."),
        "promote": (f"{_HERE}.models:promote", "Move an alias to a run's version, if the gate is open."),
        "rollback": (f"{_HERE}.models:rollback", "Move an alias back."),
        "serve": (f"{_HERE}.stack:serve", "Serve the version an alias names over HTTP."),
        "training-service": (f"{_HERE}.training_service:training_service", "Train when asked over HTTP."),
        "token": (f"{_HERE}.tokens:token", "Make, list and revoke the server's bearer tokens."),
        "code": (f"{_HERE}.code:code", "Let a version run the code it brings: show, approve, revoke."),
        "route": (f"{_HERE}.routes:route", "Share requests between versions: weights, shadow, canary, verdict."),
        "monitor": (f"{_HERE}.models:monitor", "Compare recent predictions with the training baseline."),
        "label": (f"{_HERE}.labels:label", "Bring the true labels of earlier predictions."),
        "gc": (f"{_HERE}.gc:gc", "Remove from the object store what nothing names."),
        "reconcile": (f"{_HERE}.models:reconcile", "Make MLflow's aliases say what the ledger says."),
    },
    "Look": {
        "list": (f"{_HERE}.data:list_", "List models, datasets or runs."),
        "show": (f"{_HERE}.data:show", "Show one manifest."),
        "why": (f"{_HERE}.provenance:why", "Show what a thing came of and what came of it."),
        "diff": (f"{_HERE}.provenance:diff", "Show what changed from one manifest to another."),
        "verify": (f"{_HERE}.provenance:verify", "Re-hash everything a manifest names in the object store."),
        "history": (f"{_HERE}.models:history", "Show which versions an alias named, by whom and why."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class Mlops(click.Group):
    """A group that knows its commands by table and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if cmd_name.startswith("-"):
                return None  # click says what is wrong with an option
            raise click.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()], col_max=12)

    def main(self, args: Any = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]  # one way out
        """Run, and leave with the exit code of what happened."""
        words = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        try:
            code = super().main(words, "mlops", **extra)
            sys.stdout.flush()
        except Exception as error:
            code = _report(error, words)
        gc.freeze()  # the process ends: what is left need not be looked through for cycles
        sys.exit(code if isinstance(code, int) else 0)


def _report(error: Exception, words: list[str]) -> int:
    """Say what went wrong, and return the exit code."""
    found: dict[str, Any]
    as_json, verbose = "--json" in words, bool({"-v", "--verbose"} & set(words))
    if isinstance(error, click.Abort):
        _say({"type": "Interrupted", "message": "Interrupted.", "fix": None, "exit_code": 130}, as_json)
        return 130
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  `mlops list | head`: nobody reads on, and exit must not flush into the pipe
        return 0
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())
        return 2
    if isinstance(error, click.ClickException):
        ctx = getattr(error, "ctx", None)
        path = ctx.command_path if ctx else "mlops"
        found = {"type": "UsageError", "message": error.format_message(), "fix": f"{path} --help", "exit_code": error.exit_code}
    elif isinstance(error, ZebraError):
        found = {"type": type(error).__name__, "message": error.message, "fix": error.fix, "exit_code": error.exit_code}
    else:
        found = _bug(error, verbose)
    if verbose:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    _say(found, as_json)
    return int(found["exit_code"])


def _say(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": found}))
        return
    label = "bug: " if found["type"] == "Bug" else "" if found["type"] == "Interrupted" else "error: "
    click.echo(click.style(label, fg="red", bold=True) + found["message"], err=True)
    if found["fix"]:
        click.echo(click.style("  fix: ", fg="green", bold=True) + found["fix"], err=True)


def _bug(error: Exception, verbose: bool) -> dict[str, Any]:
    """A mistake of ours: one line for the person, the traceback in a file for the report."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    try:
        from zebra_assets.settings import find_project

        home = find_project() / ".zebraops"
        path = (home if home.is_dir() else Path(tempfile.gettempdir())) / "last-error.txt"
        path.write_text(text, encoding="utf-8")
        kept = f" The traceback is in {path}."
    except OSError:
        kept = ""
    message = f"{type(error).__name__}: {error}.{kept}"
    return {"type": "Bug", "message": message, "fix": None if verbose else "rerun with -v to see the traceback", "exit_code": 1}


@click.group(
    "mlops",
    cls=Mlops,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Docs: README.md and docs/.",
)
@click.version_option(package_name="zebraops", prog_name="zebraops", message="%(prog)s %(version)s")
@common_options
def cli(**_: Any) -> None:
    """ZebraOps: versioned data, gated promotion, serving, drift and retraining, as one loop on your machine.

    A first minute: mlops demo. Your own model: mlops init my-project.
    """


def main() -> None:
    """The entry point of the `mlops` script. SIGTERM unwinds like Ctrl-C does, so that children are stopped too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cli.main()


if __name__ == "__main__":
    main()
