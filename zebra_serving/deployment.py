"""One model behind one alias: what loads it, answers with it, remembers its predictions, and when each of these runs.

    loader (ledger -> versions) -> chooser (which of them answers this request) -> plane -> capture
    router (route log -> candidates beside it, and the lots)
    watch (does MLflow still agree)

Knows no protocol and no other model: doors and routes get here through the `Fleet`, which `app` composes.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from zebra_assets.contracts.code_approval import Approvals
from zebra_assets.contracts.dataset_spec import load_dataset_spec
from zebra_assets.contracts.model_folder import ModelFeature
from zebra_assets.contracts.model_spec import ModelSpec, load_model_spec
from zebra_assets.contracts.names import check_name, safe_join
from zebra_assets.contracts.ports import EventStore, Ledger, Records
from zebra_assets.contracts.route import Routes
from zebra_assets.contracts.sketch import Sketches
from zebra_assets.errors import ZebraError
from zebra_assets.settings import Settings
from zebra_serving.alias_watch import AliasWatch
from zebra_serving.capture import Capture
from zebra_serving.compile.workshop import Workshop
from zebra_serving.fetch import Source
from zebra_serving.loader import Loader
from zebra_serving.metrics import Metrics
from zebra_serving.own_code import OwnCodeShop
from zebra_serving.recording import Recording
from zebra_serving.routing.figures import RouteFigures
from zebra_serving.routing.plane import Chosen, RoutedPlane
from zebra_serving.routing.router import Router
from zebra_serving.served import Served
from zebra_serving.staging import Staging

log = logging.getLogger(__name__)

# Seconds for what runs when the server stops: requests have had their grace by then, so nobody waits for its answer any more.
CLOSE_S = 3.0
ASLEEP = "The model is loaded with its first request."


@dataclass(frozen=True)
class Ports:
    """The world as a deployment sees it.

    Attributes:
        reachable: raises `Unavailable` when the state database should not be asked now.
    """

    ledger: Ledger
    registry: Source
    events: EventStore
    records: Records
    sketches: Sketches
    routes: Routes
    approvals: Approvals
    reachable: Callable[[], None]


class Chooser(Protocol):
    """Which version answers a request. Asked once per request, in the event loop: no I/O, and no more than microseconds."""

    def choose(self, headers: Mapping[bytes, bytes]) -> Served | None:
        """A version in memory; None while there is none. ``headers`` have lower-case names."""
        ...


class InForce:
    """The chooser of a model without routing: the version that the ledger names."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def choose(self, headers: Mapping[bytes, bytes]) -> Served | None:
        return self._loader.current


class Deployment:
    """A model's versions from the ledger to the answer.

    Asleep until `wake`: it costs nothing then, and the ledger is not asked. A lazy one is woken by its first request.

    Args:
        on_settled: see `Loader`; called with the model's name, too.
        lazy: whether a request wakes it and waits for it; otherwise whoever composes the server does, and requests are refused
            until a version is there.
        workers: processes that share the limit on recorded events.

    Attributes:
        chooser: may be replaced before `wake`.
        staging: knows where a version's files rest.
        changed: called after each change of version, in the loader's thread.

    Raises:
        UsageError: not a legal model or alias name.
        SpecInvalid: the model's model.yaml is wrong, so it is not known which columns are sensitive.
    """

    def __init__(
        self,
        settings: Settings,
        model: str,
        alias: str,
        ports: Ports,
        on_settled: Callable[[str, Served | None], None] = lambda model, served: None,
        *,
        lazy: bool = False,
        workers: int = 1,
    ) -> None:
        check_name(model, "model")
        check_name(alias, "alias")
        self.model, self.alias, self.lazy, self.metrics = model, alias, lazy, Metrics()
        self.asleep = True
        self.changed: Callable[[], None] = lambda: None
        self._told, self._settled, self._comers, self._capturing = on_settled, Future[None](), 0, False
        spec = _spec(settings, model)
        serving = settings.home / "serving"
        self.capture = Capture(
            ports.events,
            self.metrics,
            # Without model.yaml nobody knows which columns are sensitive: nothing is recorded, and /metrics counts it as sampled out.
            Recording.of(spec, settings).shared_by(workers) if spec else Recording(),
            sketches=ports.sketches if spec else None,
            reachable=ports.reachable,
        )
        keys = _keys(settings, spec)
        workshop, own_code = Workshop(serving / "compiled", keys), OwnCodeShop(ports.approvals, keys)
        staging = self.staging = Staging(serving / "cache", ports.registry, ports.records, workshop, own_code)
        self.loader = Loader(
            model,
            alias,
            ledger=ports.ledger,
            staging=staging,
            last_good=serving / f"{model}-{alias}.last-good.json",
            interval_s=settings.reload_interval_s,
            metrics=self.metrics,
            reachable=ports.reachable,
            on_settled=self._changed,
        )
        if lazy:
            self.loader.sleep(ASLEEP)
        self.watch = AliasWatch(ports.registry, lambda: self.loader.current, self.metrics, interval_s=10 * settings.reload_interval_s)
        self.chooser: Chooser = InForce(self.loader)
        self.router = Router(
            model,
            alias,
            routes=ports.routes,
            staging=staging,
            in_force=lambda: self.loader.current,
            interval_s=settings.reload_interval_s,
            reachable=ports.reachable,
        )
        self.metrics.registry.register(RouteFigures(self.router))
        self.plane = RoutedPlane(
            self.router,
            self.choose,
            self._awaken,
            self.capture,
            self.metrics,
            workers=settings.serving_threads,
            max_waiting=settings.serving_queue,
        )
        self.metrics.weight.set_function(lambda: self.weight)

    def choose(self, headers: Mapping[bytes, bytes]) -> Served | None:
        """The version that answers a request with these headers; None while there is none."""
        return headers.served if type(headers) is Chosen else self.chooser.choose(headers)

    @property
    def weight(self) -> int:
        """Bytes of all versions in memory, those of a route too; see `weight`."""
        return self.loader.weight + self.router.weight

    @property
    def busy(self) -> bool:
        """Whether requests are under way, or wait for a version."""
        return bool(self.plane.waiting or self._comers)

    def wake(self) -> None:
        """Begin to follow the ledger. In the event loop only, as `sleep` is."""
        if not self.asleep:
            return
        self.asleep, self._settled = False, Future()
        if not self._capturing:
            self.capture.start()
            self._capturing = True
        for part in (self.loader, self.watch, self.router):
            part.start()

    def sleep(self) -> None:
        """Forget the versions and end the threads, without waiting; what was captured goes on being written."""
        self.asleep = True
        self.watch.stop(0.0)
        self.loader.sleep(ASLEEP)
        self.router.sleep()
        self.plane.close(wait=False)

    def stop(self) -> None:
        """Let the running predictions end, but not for long, and write what was captured before anything else is waited for."""
        closing = threading.Thread(target=self.plane.close, name="close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if self._capturing:
            self.capture.stop()
        self.watch.stop()
        self.loader.stop()
        self.router.stop()

    async def settled(self, patience_s: float) -> bool:
        """Wait until it is known what there is to serve, since the last `wake`; whether it is by now."""
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._settled)), patience_s)
        except TimeoutError:
            return False
        return True

    async def _awaken(self, headers: Mapping[bytes, bytes], patience_s: float) -> Served:
        """The version that answers, as soon as there is one: requests that come together wait for one load.

        Raises:
            NotReady: there is nothing to load, or it takes longer than ``patience_s``.
        """
        until = time.monotonic() + patience_s
        self._comers += 1  # whoever waits keeps the model from being put to sleep again
        try:
            while (served := self.choose(headers)) is None:
                if self.lazy and self.asleep:
                    self.wake()
                elif not self.lazy or self._settled.done():
                    raise self.loader.not_ready()
                if not await self.settled(until - time.monotonic()):
                    raise self.loader.not_ready()
            return served
        finally:
            self._comers -= 1

    def _changed(self, served: Served | None) -> None:
        if not self._settled.done():
            self._settled.set_result(None)
        self._told(self.model, served)
        self.changed()


def _spec(settings: Settings, model: str) -> ModelSpec | None:
    """The model's spec where the server has the project's files; an image may come without them."""
    folder = safe_join(settings.models_dir, model)
    return load_model_spec(folder) if (folder / "model.yaml").is_file() else None


def _keys(settings: Settings, spec: ModelSpec | None) -> list[ModelFeature]:
    """The key columns of the data that the model was trained on: a row may bring them along, and its event keeps them."""
    folder = safe_join(settings.manifests_dir, spec.datasets.train) if spec else None
    if folder is None or not (folder / "dataset.yaml").is_file():
        return []
    try:
        data = load_dataset_spec(folder)
    except ZebraError as error:  # labels cannot be joined by key then; no reason not to predict
        log.warning("rows cannot bring a key: %s", error.message)
        return []
    return [ModelFeature(name=name, dtype=data.columns[name].dtype) for name in data.key]
