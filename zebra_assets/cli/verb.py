"""What every command shares: the options that may stand before or after its name, and the `Call` it works with.

Imported by `mlops --help`, so: click and the standard library only, the rest inside functions.
"""

import functools
import gc
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from zebra_assets.parts import Parts
    from zebra_assets.settings import Settings

F = Callable[..., Any]


def common_options(function: F) -> F:
    """`--project --profile --json -v`, accepted on the group and on each command, because people type them on either side."""

    def common() -> None: ...

    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Show tracebacks and the training log."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else."),
        click.option("--profile", metavar="NAME", help="Settings from infra/profiles/NAME.yaml."),
        click.option("--project", metavar="DIR", help="Project folder; default: found from here upwards."),
    ):
        option(common)
    # click shows the list backwards: first here is last in --help, after the command's own options.
    function.__click_params__ = common.__click_params__ + getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    return function


def verb(name: str | None = None, **attributes: Any) -> Callable[[F], click.Command]:
    """Make a command of ``function(call, **arguments)``. It may return an exit code; None is 0."""

    def decorate(function: F) -> click.Command:
        @functools.wraps(function)
        def run(project: str | None, profile: str | None, as_json: bool, verbose: bool, **arguments: Any) -> Any:
            above = _said_above(click.get_current_context())
            call = Call(
                project or above.get("project"),
                profile or above.get("profile"),
                as_json or bool(above.get("as_json")),
                verbose or bool(above.get("verbose")),
            )
            return function(call, **arguments)

        command: click.Command = click.command(name or function.__name__, **attributes)(common_options(run))  # type: ignore[no-untyped-call]
        return command

    return decorate


def _said_above(context: click.Context) -> dict[str, Any]:
    """The common options of the groups that a command belongs to; the nearest one's word counts."""
    above = context.parent
    return {} if above is None else {**_said_above(above), **{name: value for name, value in above.params.items() if value}}


@dataclass
class Call:
    """One invocation: which project, how to answer, and the parts to work with."""

    project: str | None = None
    profile: str | None = None
    as_json: bool = False
    verbose: bool = False

    @cached_property
    def settings(self) -> "Settings":
        """The project's settings.

        Raises:
            UsageError: no such folder, unknown profile.
            NotFound: the folder is no project.
        """
        from zebra_assets.errors import NotFound
        from zebra_assets.settings import load_settings

        settings = load_settings(self.folder, self.profile)
        if not (settings.models_dir.is_dir() and settings.manifests_dir.is_dir()):
            raise NotFound(
                f"{settings.project_dir} is no project: it has no models/ and manifests/.",
                fix="cd into a project, pass --project DIR, or start one: mlops init my-project",
            )
        return settings

    @property
    def folder(self) -> Path | None:
        """The folder `--project` names, or None where it was not said."""
        from zebra_assets.errors import UsageError

        if self.project is None:
            return None
        folder = Path(self.project).expanduser().resolve()
        if not folder.is_dir():
            raise UsageError(f"--project {self.project}: no such folder.", fix="pass the folder that holds models/ and manifests/")
        return folder

    def forget_settings(self) -> None:
        """Have settings and parts made anew on their next use: this process has changed its environment."""
        for name in ("settings", "parts"):
            self.__dict__.pop(name, None)

    @cached_property
    def parts(self) -> "Parts":
        """The project's adapters; embedded stores are made by whoever first writes to them."""
        from zebra_assets.parts import Parts

        return Parts(self.settings)

    def answer(self, data: Any, show: Callable[[], None]) -> None:
        """The result: ``data`` as JSON, or what ``show`` prints for a person."""
        if self.as_json:
            click.echo(json.dumps(data, default=_plain))
        else:
            show()

    def note(self, text: str) -> None:
        """A remark on stderr, unless a program reads."""
        if not self.as_json:
            click.echo(click.style(text, dim=True), err=True)

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[..., None]]:
        """A function ``tick(stage, rows=None)``: a live line on a terminal, plain lines otherwise, nothing with --json.

        The garbage collector rests until the first tick. An ingest tells its first stage when all is imported that it needs, and
        what is imported stays: to look through it again and again took 0.3 of the first 1.3 s. Commands that tell a stage at once
        gain nothing.
        """
        gc.disable()
        try:
            with self._shown(label) as tick:

                def first_wakes(stage: str, rows: int | None = None) -> None:
                    if not gc.isenabled():
                        gc.freeze()
                        gc.enable()
                    tick(stage, rows)

                yield first_wakes
        finally:
            gc.enable()

    @contextmanager
    def _shown(self, label: str) -> Iterator[Callable[..., None]]:
        if self.as_json:
            yield lambda stage, rows=None: None
        elif sys.stderr.isatty():
            from zebra_assets.cli.show import live

            with live(label) as tick:
                yield tick
        else:
            yield _plain_lines(label)


def _plain_lines(label: str) -> Callable[..., None]:
    seen: list[str] = []

    def tick(stage: str, rows: int | None = None) -> None:
        if not seen or seen[-1] != stage:  # one line a stage: a log file wants no thousand row counts
            seen.append(stage)
            click.echo(f"{label}: {stage}{f' ({rows:,} rows)' if rows else ''}", err=True)

    return tick


def _plain(value: Any) -> Any:
    """Nouns, rows and paths as JSON."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if hasattr(value, "__dataclass_fields__"):
        return {field: getattr(value, field) for field in value.__dataclass_fields__}
    return str(value)


class Name(click.ParamType[str]):
    """A name or id, checked at the door: `../` never reaches a path, a key or a query."""

    def __init__(self, what: str) -> None:
        self.name = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from zebra_assets.contracts.names import check_manifest_id, check_name

        return check_manifest_id(value, self.name) if self.name in ("manifest", "run") else check_name(value, self.name)
