"""Who takes part, how each is installed, and what each does in its turn.

A turn is a few commands in an empty folder; each command is measured as a whole process. zebra's own is in `zebra`.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from benchmarks.ingest.meter import Measured, measure, warm
from benchmarks.ingest.peers.columns import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
VENVS = ROOT / ".zebraops" / "bench-venvs"
PEERS = Path(__file__).resolve().parent / "peers"
ARROW = "pyarrow==26.0.1"


@dataclass(frozen=True)
class Data:
    """The CSV files of one size."""

    name: str
    rows: int
    base: Path
    grown: Path | None = None
    grown_rows: int = 0
    shuffled: Path | None = None


class Wrong(Exception):
    """A contestant's result is not what it must be, so its figures mean nothing."""


class Contestant(Protocol):
    """One row of the table."""

    name: str
    setting: str

    def version(self) -> str:
        """What is being measured, once it is installed."""
        ...

    def turn(self, data: Data, folder: Path) -> dict[str, Measured]:
        """Do the work in the empty ``folder``: step to figures. The step `first` is the one that all have."""
        ...


def installed(home: Path, packages: list[str]) -> Path:
    """The Python of an environment that holds exactly ``packages``, made and byte-compiled on first use."""
    python, stamp = home / "bin" / "python", home / "bench-packages"
    if not stamp.exists() or stamp.read_text() != " ".join(packages):
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *packages], check=True)
        stamp.write_text(" ".join(packages))
    return python


@dataclass
class Recipe:
    """A script in peers/: CSV in, Parquet, sha256 and column statistics out."""

    name: str
    setting: str
    script: str
    packages: list[str]
    arguments: list[str] = field(default_factory=list)
    out: str = "out.parquet"

    def version(self) -> str:
        return " ".join(self.packages).replace("==", " ") or f"Python {sys.version.split()[0]}"

    def python(self) -> Path:
        return installed(VENVS / self.packages[0].split("==")[0], self.packages) if self.packages else Path(sys.executable)

    def turn(self, data: Data, folder: Path) -> dict[str, Measured]:
        python = self.python()
        warm(data.base)
        done = measure([str(python), str(PEERS / self.script), str(data.base), str(folder / self.out), *self.arguments], cwd=folder)
        return {"first": done if done.failed else checked(self.name, done, data)}


def checked(name: str, done: Measured, data: Data) -> Measured:
    """``done`` with the size of its result. `Wrong` unless it counted every row and described every column."""
    said = json.loads(done.said)
    if said.get("rows", data.rows) != data.rows or said.get("columns", len(COLUMNS)) != len(COLUMNS):
        raise Wrong(f"{name} says {said}; the file has {data.rows:,} rows and {len(COLUMNS)} columns")
    return replace(done, kept=said["bytes"])


class Dvc:
    """`dvc add` in a git repository: md5 and a link into its cache; the rows are neither read nor checked."""

    name = "dvc add"
    setting = "cache.type hardlink (nothing is copied), analytics off"
    packages = ("dvc==3.67.1",)
    env = {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}  # noqa: RUF012

    def version(self) -> str:
        return self.packages[0].replace("==", " ")

    def turn(self, data: Data, folder: Path) -> dict[str, Measured]:
        """first, again (the same file), grown (the file replaced by the longer one)."""
        python = installed(VENVS / "dvc", list(self.packages))
        dvc = [str(python.with_name("dvc"))]
        env = {**self.env, "DVC_SITE_CACHE_DIR": str(folder / "site")}
        repo = folder / "repo"
        repo.mkdir()
        for argv in (["git", "init", "-q"], [*dvc, "init", "-q"], [*dvc, "config", "cache.type", "hardlink"]):
            subprocess.run(argv, cwd=repo, check=True, env={**os.environ, **env}, stdout=subprocess.DEVNULL)
        steps = {}
        for step, source in (("first", data.base), ("again", data.base), ("grown", data.grown)):
            if source is None:
                continue
            if step != "again":
                (repo / "data.csv").unlink(missing_ok=True)
                shutil.copyfile(source, repo / "data.csv")
            warm(repo / "data.csv")
            before = size(repo / ".dvc" / "cache")
            done = measure([*dvc, "add", "-q", "data.csv"], cwd=repo, env=env)
            kept = size(repo / ".dvc" / "cache")
            steps[step] = replace(done, kept=kept, added=kept - before)
        return steps


def size(folder: Path) -> int:
    """Bytes of the files below ``folder``; 0 where there is none."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def peers() -> list[Contestant]:
    """Everybody but zebra, in the order of a round: the largest last, because it pushes files out of the disk cache."""
    return [
        Recipe("limit", "read once, sha256, write back, fsync", "limit.py", [], out="out.csv"),
        Recipe("duckdb", "explicit columns, preserve_insertion_order = false", "with_duckdb.py", ["duckdb==2.0.0"]),
        Recipe("polars", "explicit schema, scan_csv().sink_parquet()", "with_polars.py", ["polars==2.1.0"]),
        Recipe("pyarrow", "explicit types, dataset scanner to write_dataset", "with_pyarrow.py", [ARROW], out="out"),
        Dvc(),
        Recipe("pandas (pyarrow engine)", "engine and dtype_backend pyarrow", "with_pandas.py", ["pandas==3.1.1", ARROW], ["pyarrow"]),
        Recipe("pandas", "explicit dtypes, default engine", "with_pandas.py", ["pandas==3.1.1", ARROW], ["c"]),
    ]
