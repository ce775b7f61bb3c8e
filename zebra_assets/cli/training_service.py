"""`mlops training-service`: train when a program asks over HTTP."""

import os
import sys

import click

from zebra_assets.cli.verb import Call, verb


@verb("training-service")
@click.option("--host", default="127.0.0.1", show_default=True, help="Anything but loopback needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8081, show_default=True, help="0 picks a free one.")
def training_service(call: Call, host: str, port: int) -> None:
    """Train models when asked over HTTP, by the contract of akerbp.mlops. Ctrl-C stops it.

    POST /akerbp/MODEL/train trains as `mlops train MODEL` does and answers with the run; the same content is trained once.
    """
    from zebra_assets.cli import ports
    from zebra_assets.errors import Conflict

    if port and ports.taken(port, host):
        raise Conflict(f"Port {port} is taken{ports.describe(port)}.", fix=f"mlops training-service --port {port + 1}")
    argv = [sys.executable, "-m", "zebra_assets.console.training_service", "--project", str(call.settings.project_dir)]
    argv += ["--host", host, "--port", str(port)]
    sys.stdout.flush()
    # The service takes this process's place: one pid to watch, and signals reach it directly.
    os.execve(argv[0], argv, {**os.environ, "ZEBRA_PROFILE": call.settings.profile})  # noqa: S606  argv list, no shell
