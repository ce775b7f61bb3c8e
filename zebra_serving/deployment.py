"""One model behind one alias: what loads it, answers with it, remembers its predictions, and when each of these runs.

    loader (ledger -> versions) -> chooser (which of them answers this request) -> plane -> capture
    router (route log -> candidates beside it, and the lots)
    watch (does MLflow still agree)

Knows no protocol and no other model: doors and routes get here through the `Fleet`, which `app` composes.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

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
from zebra_serving.recording import Recording
from zebra_serving.routing.figures import RouteFigures
from zebra_serving.routing.plane import Chosen, RoutedPlane
from zebra_serving.routing.router import Router
from zebra_serving.served import Served
from zebra_serving.staging import Staging

log = logging.getLogger(__name__)


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

    Args:
        on_settled: see `Loader`; called with the model's name, too.

    Attributes:
        chooser: may be replaced before `start`.

    Raises:
        UsageError: not a legal model or alias name.
        SpecInvalid: the model's model.yaml is wrong, so it is not known which columns are sensitive.
    """

    def __init__(
        self, settings: Settings, model: str, alias: str, ports: Ports, on_settled: Callable[[str, Served | None], None] = lambda m, s: None
    ) -> None:
        check_name(model, "model")
        check_name(alias, "alias")
        self.model, self.alias, self.metrics = model, alias, Metrics()
        spec = _spec(settings, model)
        serving = settings.home / "serving"
        self.capture = Capture(
            ports.events,
            self.metrics,
            # Without model.yaml nobody knows which columns are sensitive: nothing is recorded, and /metrics counts it as sampled out.
            Recording.of(spec, settings) if spec else Recording(),
            sketches=ports.sketches if spec else None,
            reachable=ports.reachable,
        )
        workshop = Workshop(serving / "compiled", keys=_keys(settings, spec))
        staging = Staging(serving / "cache", ports.registry, ports.records, workshop)
        self.loader = Loader(
            model,
            alias,
            ledger=ports.ledger,
            staging=staging,
            last_good=serving / f"{model}-{alias}.last-good.json",
            interval_s=settings.reload_interval_s,
            metrics=self.metrics,
            reachable=ports.reachable,
            on_settled=lambda served: on_settled(model, served),
        )
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
        self.plane = RoutedPlane(self.router, self.choose, self.loader.not_ready, self.capture, self.metrics)

    def choose(self, headers: Mapping[bytes, bytes]) -> Served | None:
        """The version that answers a request with these headers; None while there is none."""
        return headers.served if type(headers) is Chosen else self.chooser.choose(headers)

    def start(self) -> None:
        """Begin to follow the ledger."""
        for part in (self.capture, self.loader, self.watch, self.router):
            part.start()

    def stop(self) -> None:
        """Let the running predictions end and write what was captured."""
        self.watch.stop()
        self.loader.stop()
        self.plane.close()
        self.router.stop()
        self.capture.stop()


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
