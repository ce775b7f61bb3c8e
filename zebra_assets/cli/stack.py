"""`up`, `down` and `serve`: processes that outlive a command. The only room of the CLI that starts any."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zebra_assets import telemetry
from zebra_assets.cli.verb import Call, Name, verb

if TYPE_CHECKING:
    from zebra_assets.cli.services import Service, Services

PORT = click.IntRange(1, 65535)


@verb()
@click.option("--lite", is_flag=True, help="Without Docker: background processes on this machine.")
@click.option("--model", type=Name("model"), help="With --lite: which model to serve; default: the one in prod, else the first.")
@click.option("--dagster-port", type=PORT, default=3000, show_default=True)
@click.option("--mlflow-port", type=PORT, default=5000, show_default=True)
@click.option("--serving-port", type=PORT, help="Default: the setting serving_port (8080).")
@click.option("--s3", is_flag=True, help="With --lite: an S3 server (SeaweedFS), which then holds the objects.")
@click.option("--s3-port", type=click.IntRange(1, 54000), default=8333, show_default=True)
@click.option("--timeout", type=click.FloatRange(1), default=180, show_default=True, help="Seconds to wait until all answer.")
def up(
    call: Call,
    lite: bool,
    model: str | None,
    dagster_port: int,
    mlflow_port: int,
    serving_port: int | None,
    s3: bool,
    s3_port: int,
    timeout: float,
) -> None:
    """Start Dagster, MLflow and the server. Running it again starts only what is missing."""
    if not lite:
        _compose(call, "up", "-d")
        return
    services = _services(call)
    if s3:
        _s3(call, services, s3_port, timeout)
    chosen = _served(call, model)
    wanted = _lite(call, chosen, dagster_port, mlflow_port, serving_port or call.settings.serving_port)
    with call.progress("up") as tick:
        if services.missing(wanted):
            tick("preparing the stores")
            initialise(call)
        running = services.up(wanted, timeout_s=timeout, tick=tick)

    def show() -> None:
        from zebra_assets.cli.show import say, table

        table(["service", "url", "pid", "log"], [[r.name, r.url, str(r.pid), str(r.log)] for r in running.values()])
        if chosen is None:
            say("No model to serve yet: mlops init my-model")
        if s3:
            say(f"Objects rest in S3 for these services. For this shell: . {call.settings.home / 's3.env'}")
        say("Stop with: mlops down")

    call.answer({"services": [{"name": r.name, "url": r.url, "pid": r.pid, "log": str(r.log)} for r in running.values()]}, show)


@verb()
@click.option("--lite", is_flag=True, help="Only the background processes; leave Docker alone.")
def down(call: Call, lite: bool) -> None:
    """Stop what `up` started, and nothing else."""
    with call.progress("down") as tick:
        tick("stopping")
        stopped = _services(call).down()
    if not lite and not stopped and _compose_works(call.settings.project_dir):
        _compose(call, "down")
        return
    text = f"stopped {', '.join(stopped)}" if stopped else "nothing was running"
    call.answer({"stopped": stopped}, lambda: click.echo(text))


@verb()
@click.argument("models", metavar="MODEL…", type=Name("model"), nargs=-1)
@click.option("--all", "every", is_flag=True, help="Serve every model of the project.")
@click.option("--alias", type=Name("alias"), default="prod", show_default=True, help="prod or staging.")
@click.option("--host", help="Default: the setting serving_host (127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Default: the setting serving_port (8080); 0 picks a free one.")
def serve(call: Call, models: tuple[str, ...], every: bool, alias: str, host: str | None, port: int | None) -> None:
    """Serve the version MODEL's alias names; a promotion is picked up without restart. Ctrl-C stops it.

    Of several models the first is loaded at once and answers at /predict, the others when /models/NAME/predict is asked.
    """
    from zebra_assets.cli import ports
    from zebra_assets.control import server
    from zebra_assets.errors import Conflict

    settings = call.settings
    chosen = _all(call, models, every)
    alias = _one_alias(call, chosen, alias)
    host, port = host or settings.serving_host, settings.serving_port if port is None else port
    if port and ports.taken(port, host):
        raise Conflict(f"Port {port} is taken{ports.describe(port)}.", fix=f"mlops serve {' '.join(chosen)} --port {port + 1}")
    argv = server.command(settings.project_dir, chosen, alias=alias, host=host, port=port)
    sys.stdout.flush()
    # The server takes this process's place: one pid to watch, and signals reach it directly.
    os.execve(argv[0], argv, server.environment({**os.environ, **telemetry.OFF, "ZEBRA_PROFILE": settings.profile}))  # noqa: S606  argv list, no shell


def initialise(call: Call) -> str:
    """Migrate every store and register partitions, in one process of its own; what it said.

    Raises:
        Unavailable: it failed; the message carries its last lines.
    """
    from zebra_assets.errors import Unavailable

    done = subprocess.run(
        [sys.executable, "-m", "zebra_assets.defs.initialise"],
        env={**os.environ, **_environment(call)},
        cwd=call.settings.project_dir,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[-8:]
        raise Unavailable("The stores could not be prepared:\n" + "\n".join(f"    {line}" for line in lines), fix="mlops doctor")
    return done.stdout


def _environment(call: Call) -> dict[str, str]:
    settings = call.settings
    return {
        **telemetry.OFF,
        "DAGSTER_HOME": str(settings.instance_home),
        "ZEBRA_PROJECT_DIR": str(settings.project_dir),
        "ZEBRA_PROFILE": settings.profile,
    }


def _services(call: Call) -> "Services":
    from zebra_assets.cli.services import Services

    return Services(call.settings.home, call.settings.project_dir)


def _served(call: Call, model: str | None) -> str | None:
    """The model to serve: the one named, else the first in prod, else the first."""
    from zebra_assets.control import queries

    if model is not None:
        return queries.model_spec(call.parts, model).name
    rows = [row for row in queries.models(call.parts) if not row.problem]
    return next((row.name for row in rows if row.prod), rows[0].name if rows else None)


def _s3(call: Call, services: "Services", port: int, timeout: float) -> None:
    """Start the S3 server first, and let this command and all that it starts use it."""
    from zebra_assets.cli import s3

    env = s3.environment(call.settings.home, port)
    with call.progress("up") as tick:
        services.up([s3.service(call.settings.home, port, env)], timeout_s=timeout, tick=tick)
    os.environ.update(env)
    call.forget_settings()


def _lite(call: Call, model: str | None, dagster_port: int, mlflow_port: int, serving_port: int) -> list["Service"]:
    from zebra_assets.cli.services import Service
    from zebra_assets.control import server
    from zebra_assets.control.operations import spec_alias

    settings, python = call.settings, sys.executable
    env = {**_environment(call), "ZEBRA_DAGSTER_UI_URL": f"http://127.0.0.1:{dagster_port}"}
    wanted = []
    if not settings.tracking.startswith("http"):
        url = f"http://127.0.0.1:{mlflow_port}"
        env["ZEBRA_MLFLOW_UI_URL"] = url
        # The same database everybody else opens directly: the server is for people's eyes, nothing waits for it.
        argv = [python, "-m", "mlflow", "server", "--backend-store-uri", settings.tracking, "--default-artifact-root", settings.artifacts]
        argv += ["--artifacts-destination", settings.artifacts, "--host", "127.0.0.1", "--port", str(mlflow_port), "--workers", "1"]
        env = {**telemetry.OFF, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        wanted.append(Service("mlflow", argv, mlflow_port, f"{url}/health", url, env))
    url = f"http://127.0.0.1:{dagster_port}"
    workspace = settings.project_dir / "workspace.yaml"
    where = ["-w", str(workspace)] if workspace.exists() else ["-m", "zebra_assets.defs.definitions"]
    argv = [python, "-m", "dagster", "dev", *where, "-h", "127.0.0.1", "-p", str(dagster_port)]
    wanted.append(Service("dagster", argv, dagster_port, f"{url}/server_info", url, env))
    if model is not None:
        url = f"http://127.0.0.1:{serving_port}"
        argv = server.command(settings.project_dir, [model], alias=spec_alias(call.parts, model, "prod"), port=serving_port)
        wanted.append(Service("serving", argv, serving_port, f"{url}/health", url, server.environment({**os.environ, **env})))
    return wanted


def _all(call: Call, models: tuple[str, ...], every: bool) -> list[str]:
    """The models named, or all of the project. `UsageError` where it is neither or both."""
    from zebra_assets.control import queries
    from zebra_assets.errors import NotFound, UsageError

    if every == bool(models):
        raise UsageError("Name the models to serve, or say --all.", fix="mlops serve --all")
    if models:
        return list(dict.fromkeys(models))
    known = [row.name for row in queries.models(call.parts) if not row.problem]
    if not known:
        raise NotFound(f"There are no models in {call.settings.models_dir}.", fix="mlops init my-model")
    return known


def _one_alias(call: Call, models: list[str], alias: str) -> str:
    """What the models' specs call the alias. `UsageError` where they call it differently: a server has one."""
    from zebra_assets.control.operations import spec_alias
    from zebra_assets.errors import UsageError

    names = {model: spec_alias(call.parts, model, alias) for model in models}
    if len(set(names.values())) > 1:
        said = ", ".join(f"{model}: {name}" for model, name in names.items())
        raise UsageError(f"The models call the alias {alias} differently: {said}.", fix=f"mlops serve {models[0]}, and one server each")
    return names[models[0]]


def _compose_works(project: Path) -> bool:
    if shutil.which("docker") is None or not (project / "docker-compose.yml").exists():
        return False
    probe = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return probe.returncode == 0 and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def _compose(call: Call, *words: str) -> None:
    from zebra_assets.errors import Unavailable

    project = call.settings.project_dir
    if not _compose_works(project):
        raise Unavailable(
            "`mlops up` needs a running Docker engine with the compose plugin, and docker-compose.yml in the project.",
            fix="mlops up --lite",
        )
    with call.progress(f"docker compose {words[0]}") as tick:
        tick("working")
        done = subprocess.run(["docker", "compose", *words], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"docker compose {' '.join(words)} failed:\n{done.stderr.strip()[-1500:]}", fix="docker compose logs")
    call.answer({"compose": list(words)}, lambda: click.echo("docker compose ps shows the services"))
