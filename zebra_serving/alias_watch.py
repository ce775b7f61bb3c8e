"""Does MLflow's alias still say what the ledger says? Looked at now and then, shown in `/model`, never obeyed.

In a thread of its own, because an MLflow server that is down takes minutes to say so, and the ledger must not wait for it.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from zebra_assets.contracts.noun import now
from zebra_assets.errors import ZebraError
from zebra_serving.fetch import Source
from zebra_serving.metrics import Metrics
from zebra_serving.served import Served

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AliasDrift:
    """MLflow's alias was moved by somebody else than `promote`. ``mlflow`` is None where the alias was deleted."""

    mlflow: str | None
    ledger: str
    since: datetime
    fix: str


class AliasWatch:
    """Compares every ``interval_s`` seconds.

    Attributes:
        drift: the difference, while there is one.
        unknown: why the last look failed; None when it did not.
    """

    def __init__(self, registry: Source, current: Callable[[], Served | None], metrics: Metrics, *, interval_s: float) -> None:
        self.drift: AliasDrift | None = None
        self.unknown: str | None = "not looked yet"
        self._registry, self._current, self._interval_s = registry, current, interval_s
        self._suspected: tuple[str | None, str] | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        metrics.alias_drift.set_function(lambda: float(self.drift is not None))

    def start(self) -> None:
        """Begin to look, also after `stop`."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._ended,), name="alias-watch", daemon=True)
        self._thread.start()

    def stop(self, patience_s: float = 1.0) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(patience_s)

    def look(self) -> None:
        """Compare once."""
        served = self._current()
        if served is None:
            return
        head = served.promotion
        try:
            named = self._registry.alias(head.model, head.alias)
        except Exception as error:
            self.unknown = error.message if isinstance(error, ZebraError) else f"{type(error).__name__}: {error}"
            return
        self.unknown = None
        difference = None if named == head.version else (named, head.version)
        # A promotion in progress looks like drift until the loader has seen it; only what is seen twice is reported.
        if difference is None or difference != self._suspected:
            self.drift = None
        elif self.drift is None:
            fix = f"mlops promote {head.model} moves it through the gate; the ledger's version {head.version} goes on serving"
            self.drift = AliasDrift(named, head.version, now(), fix)
            log.warning("MLflow's alias %s names version %s, the ledger %s", head.alias, named, head.version)
        self._suspected = difference

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(self._interval_s):
            self.look()
