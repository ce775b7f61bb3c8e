"""Model folders out of MLflow, through a child process: `python -m zebra_serving.fetch MODEL VERSION INTO`, the URI on stdin.

MLflow knows a dozen kinds of artifact stores and costs 165 MB and 1.4 s to import, so it is imported where it can be thrown away.
`Source` is what the server sees of the registry: a download, and which version an alias names.
"""

import subprocess
import sys
from pathlib import Path
from typing import Protocol

import msgspec

from zebra_assets.adapters.mlflow_alias import AliasReader
from zebra_assets.errors import Conflict, NotFound, Refused, Unavailable, UsageError, ZebraError

TIMEOUT_S = 1800
_ERRORS: dict[str, type[ZebraError]] = {kind.__name__: kind for kind in (Conflict, NotFound, Refused, Unavailable, UsageError)}


class Source(Protocol):
    """What the server asks of a model registry; `adapters.mlflow.MlflowRegistry` is one too."""

    def download(self, model: str, version: str, into: Path) -> Path:
        """Copy the version's files below ``into`` and return the model folder. `NotFound` when there is no such version."""
        ...

    def alias(self, model: str, alias: str) -> str | None:
        """The version an alias names in MLflow, or None."""
        ...


class _Reply(msgspec.Struct):
    folder: str = ""
    error: str = ""
    message: str = ""
    fix: str | None = None


class LightSource:
    """MLflow at ``uri`` without MLflow in this process."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.alias = AliasReader(uri).alias

    def download(self, model: str, version: str, into: Path) -> Path:
        """As `Source`.

        Raises:
            NotFound, Unavailable: as the registry said.
            ZebraError: the child failed in another way.
        """
        command = [sys.executable, "-m", "zebra_serving.fetch", model, version, str(into)]
        try:
            done = subprocess.run(command, input=self._uri, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
            reply = msgspec.json.decode(done.stdout.encode(), type=_Reply)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"MLflow gave no version {version} of '{model}' within {TIMEOUT_S // 60} minutes.") from error
        except msgspec.DecodeError as error:
            said = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
            raise ZebraError(f"The download of version {version} of '{model}' failed: {said[:300]}") from error
        if reply.error:
            raise _ERRORS.get(reply.error, ZebraError)(reply.message, fix=reply.fix)
        return Path(reply.folder)


def main(model: str, version: str, into: str) -> int:
    """Download; the reply goes to stdout as JSON."""
    from zebra_assets.adapters.mlflow import MlflowRegistry

    try:
        reply = _Reply(str(MlflowRegistry(sys.stdin.read(), ui_url=None).download(model, version, Path(into))))
    except ZebraError as error:
        reply = _Reply(error=type(error).__name__, message=error.message, fix=error.fix)
    sys.stdout.write(msgspec.json.encode(reply).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
