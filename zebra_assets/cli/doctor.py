"""`mlops doctor`: a table of findings, each with a fix to paste. Exit code 1 when something will not work."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zebra_assets.cli.verb import Call, verb

if TYPE_CHECKING:
    from zebra_assets.control.checks import Check
    from zebra_assets.settings import Settings

STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red", "info": "dim"}


@verb()
def doctor(call: Call) -> int:
    """Look at everything that can be wrong and say how to mend it. Exit code 1 when something must be mended."""
    with call.progress("doctor") as tick:
        tick("looking")
        found = list(_all(call))

    def show() -> None:
        from rich.text import Text

        from zebra_assets.cli.show import say, table

        rows = [[Text(c.state.upper(), style=STYLE[c.state]), c.name, c.detail] for c in found]
        table(["", "check", "found"], rows)
        for check in found:
            if check.fix and check.state in ("warn", "fail"):
                say(f"{check.name}: {check.fix}", STYLE[check.state])
        failed = sum(c.state == "fail" for c in found)
        say(f"{failed} to mend, {sum(c.state == 'warn' for c in found)} warnings" if failed else "nothing must be mended")

    failed = any(c.state == "fail" for c in found)
    call.answer({"checks": found, "healthy": not failed}, show)
    return int(failed)


def _all(call: Call) -> Iterator["Check"]:
    from zebra_assets.control.checks import Check, look, packages, python
    from zebra_assets.errors import ZebraError
    from zebra_assets.settings import load_settings

    try:
        settings = load_settings(call.folder, call.profile)
    except ZebraError as error:
        yield from python()
        yield from packages()
        yield Check("settings", "fail", error.message, error.fix)
        return
    yield from look(settings)
    yield from _ports(settings)


def _ports(settings: "Settings") -> Iterator["Check"]:
    """The ports `up --lite` wants: free, ours, or a stranger's."""
    from zebra_assets.cli import ports
    from zebra_assets.cli.services import Services
    from zebra_assets.control.checks import Check

    ours = {service.url.rpartition(":")[2]: name for name, service in Services(settings.home, settings.project_dir).running().items()}
    for name, port in (("dagster", 3000), ("mlflow", 5000), ("serving", settings.serving_port or 8080)):
        if str(port) in ours:
            yield Check(f"port {port}", "ok", f"{ours[str(port)]} runs there")
        elif ports.taken(port):
            yield Check(
                f"port {port}", "warn", f"taken{ports.describe(port)}; {name} wants it", f"mlops up --lite --{name}-port {port + 1}"
            )
        else:
            yield Check(f"port {port}", "ok", f"free for {name}")
