"""Environments for what must not share ours: peers, and clients and fuzzers that the tests run unmodified. Made on first use."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).resolve().parent / "peers"
VENVS = ROOT / ".zebraops" / "bench-venvs"


def installed(name: str) -> Path:
    """The Python of an environment that holds exactly peers/<name>.txt, made and byte-compiled on first use."""
    home, wanted = VENVS / f"serving-{name}", PEERS / f"{name}.txt"
    python, stamp = home / "bin" / "python", home / "bench-packages"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        print(f"installing {name} below {VENVS}", flush=True)
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        subprocess.run(
            [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), "--requirements", str(wanted)], check=True
        )
        stamp.write_text(wanted.read_text())
    return python
