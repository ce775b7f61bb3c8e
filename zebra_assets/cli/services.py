"""Background services of one project: started detached, remembered in `.zebraops/run/<name>.json`, stopped by that record.

A record names the process by id *and* start time, so that a pid used again by a stranger is never signalled. Output goes
to `.zebraops/logs/<name>.log`. Which services there are is `stack.py`'s business.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zebra_assets.cli import ports
from zebra_assets.cli.processes import birth, end
from zebra_assets.errors import Conflict, Unavailable


@dataclass(frozen=True)
class Service:
    """One long-running process: how to start it, and how to know that it answers."""

    name: str
    argv: list[str]
    port: int
    ready: str
    """URL that answers 200 once it is up."""
    url: str
    """URL for people."""
    env: Mapping[str, str] = field(default_factory=dict)
    others: tuple[int, ...] = ()
    """Ports that it takes besides; they move with ``port``."""
    command: str = "mlops up --lite"
    """What starts it, for a fix to name."""

    def in_the_way(self, port: int) -> int | None:
        """The first port that is taken of those it would need on ``port``; None where all are free."""
        needed = (port, *(other - self.port + port for other in self.others))
        return next((p for p in needed if p > ports.LAST or ports.taken(p)), None)


@dataclass(frozen=True)
class Running:
    """A service as recorded."""

    name: str
    pid: int
    started: str
    url: str
    log: Path


class Services:
    """The background services of the project whose `.zebraops` folder is ``home``."""

    def __init__(self, home: Path, cwd: Path) -> None:
        self.records, self.logs, self.cwd = home / "run", home / "logs", cwd

    def running(self) -> dict[str, Running]:
        """Recorded services whose process still lives; records of dead ones are removed."""
        alive = {}
        for record in sorted(self.records.glob("*.json")):
            data = json.loads(record.read_text())
            if birth(data["pid"]) == data["started"]:
                alive[record.stem] = Running(record.stem, data["pid"], data["started"], data["url"], self.logs / f"{record.stem}.log")
            else:
                record.unlink(missing_ok=True)
        return alive

    def missing(self, wanted: list[Service]) -> list[Service]:
        """Those that do not run yet, each with its ports free.

        Raises:
            Conflict: a port is taken.
        """
        running = self.running()
        missing = [s for s in wanted if s.name not in running]
        for service in missing:
            if taken := service.in_the_way(service.port):
                found = ports.holder(taken)
                free = next((p for p in range(service.port + 1, ports.LAST) if not service.in_the_way(p)), service.port)
                raise Conflict(
                    f"Port {taken}, which {service.name} needs, is taken{ports.describe(taken)}. Nothing was started.",
                    fix=f"{service.command} --{service.name}-port {free}" + (f", or stop it: kill {found[0]}" if found else ""),
                )
        return missing

    def up(self, wanted: list[Service], *, timeout_s: float, tick: Callable[[str], None]) -> dict[str, Running]:
        """Start what does not run yet and wait until all answer. What this call started is stopped again if one fails.

        Raises:
            Conflict: a port is taken; nothing was started.
            Unavailable: a service ended or did not answer in time; the message carries its last lines.
        """
        missing = self.missing(wanted)
        try:
            for service in missing:
                self._start(service)
            self._wait(wanted, timeout_s, tick)
        except BaseException:
            self.down([s.name for s in missing])
            raise
        return self.running()

    def down(self, names: list[str] | None = None) -> list[str]:
        """Stop the named services, default all that run, each with everything it started; the names of those stopped."""
        chosen = {name: s for name, s in self.running().items() if names is None or name in names}
        end({s.pid for s in chosen.values()})
        for name in chosen:
            (self.records / f"{name}.json").unlink(missing_ok=True)
        return list(chosen)

    def _start(self, service: Service) -> None:
        self.records.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{service.name}.log").open("ab") as log:
            # A session of its own: Ctrl-C in this terminal does not reach it, and one signal reaches its whole group.
            process = subprocess.Popen(
                service.argv,
                cwd=self.cwd,
                env={**os.environ, **service.env, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        record = self.records / f"{service.name}.json"
        part = record.with_suffix(".part")
        part.write_text(json.dumps({"pid": process.pid, "started": birth(process.pid), "port": service.port, "url": service.url}))
        part.replace(record)

    def _wait(self, wanted: list[Service], timeout_s: float, tick: Callable[[str], None]) -> None:
        waiting, late = {s.name: s for s in wanted}, time.monotonic() + timeout_s
        while waiting:
            tick(f"waiting for {', '.join(waiting)}")
            alive = self.running()
            for name, service in list(waiting.items()):
                if name not in alive:
                    raise Unavailable(f"{name} ended at once:\n{self._tail(name)}", fix=f"less {self.logs / f'{name}.log'}")
                if _answers(service.ready):
                    del waiting[name]
            if waiting and time.monotonic() > late:
                name = next(iter(waiting))
                said = f"{', '.join(waiting)} did not answer within {timeout_s:.0f} s:\n{self._tail(name)}"
                log = self.logs / f"{name}.log"
                raise Unavailable(said, fix=f"less {log}, or wait longer: {waiting[name].command} --timeout {timeout_s * 2:.0f}")
            time.sleep(0.2 if waiting else 0)

    def _tail(self, name: str) -> str:
        log = self.logs / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join(f"    {line}" for line in lines[-8:])


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
