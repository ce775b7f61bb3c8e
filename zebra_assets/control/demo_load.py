"""The demo's customers: real rows sent to the server as requests, counted answer by answer."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from zebra_assets.contracts.dataset_spec import DatasetSpec

Row = dict[str, Any]


def rows_of(spec: DatasetSpec, project: Path, keep: Callable[[Row], bool]) -> list[Row]:
    """The source's rows as request bodies: features only, typed by the recipe, in source order."""
    from zebra_assets.datasets.ingest import read_source

    apart = {*spec.key, spec.label.column if spec.label else None}
    rows = read_source(spec, project=project).to_pylist()
    return [{k: v for k, v in row.items() if k not in apart} for row in rows if keep(row)]


class Load:
    """A client that never stops asking while the block runs; failures are counted, never retried."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=10)
        self.requests = self.failed = 0
        self.versions: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(15)
        self.client.close()

    def send(self, rows: list[Row], batch: int = 10) -> None:
        """Ask for predictions of ``rows``, ``batch`` rows a request."""
        for start in range(0, len(rows), batch):
            self._ask(rows[start : start + batch])

    def keep_going(self, rows: list[Row]) -> None:
        """Ask for one row after the other in the background, about 50 requests a second, until the block ends."""

        def go() -> None:
            n = 0
            while not self._stop.is_set():
                self._ask([rows[n % len(rows)]])
                n += 1
                time.sleep(0.02)

        self._thread = threading.Thread(target=go, daemon=True)
        self._thread.start()

    def _ask(self, rows: list[Row]) -> None:
        try:
            answer = self.client.post("/predict", json={"rows": rows})
            good = answer.status_code == 200 and len(answer.json()["predictions"]) == len(rows)
            version = str(answer.json().get("version")) if good else None
        except (httpx.HTTPError, ValueError):
            good, version = False, None
        with self._lock:
            self.requests += 1
            self.failed += not good
            if version is not None:
                self.versions[version] += 1
