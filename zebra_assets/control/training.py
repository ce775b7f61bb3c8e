"""Trainings that somebody asks for and does not stay for: one at a time, each content once, known by the run id they will have.

A run id is a digest of spec, code, data and parameters, so whoever asks for the same joins what is under way or gets what has
finished. The thread that trains goes with the process; a training that was cut is resumed by asking again. Called by `console`.
"""

import logging
import queue
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from zebra_assets import loop
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.run import Run
from zebra_assets.control.specs import model_spec
from zebra_assets.errors import NotFound, Unavailable, UsageError
from zebra_assets.parts import Parts

log = logging.getLogger(__name__)

MOST = 8


@dataclass(frozen=True)
class Asked:
    """A training that waits or runs.

    Attributes:
        done: the finished run, or why there is none.
    """

    run_id: str
    spec: ModelSpec
    key: str
    params: Mapping[str, Any]
    asked_by: str
    done: "Future[Run]" = field(default_factory=Future)


class Trainings:
    """What has been asked of this process. From any thread."""

    def __init__(self, parts: Parts, most: int = MOST) -> None:
        self._parts, self._most = parts, most
        self._asked: dict[str, Asked] = {}
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="training", daemon=True).start()

    def ask(self, model: str, params: Mapping[str, Any], manifest_id: str | None = None, asked_by: str = "") -> Run | Asked:
        """The finished run of these very inputs, or the training that will make it.

        Args:
            manifest_id: default the newest manifest of the model's dataset.
            asked_by: who asks: the actor of the audit log, and a tag of the MLflow run.

        Raises:
            NotFound, SpecInvalid, UsageError: see the message; nothing was started.
            Unavailable: too many wait already, or a store cannot be reached.
        """
        from zebra_assets.training.plan import check_python, plan

        if strange := [name for name in params if not name.isidentifier()]:
            raise UsageError(f"'{strange[0]}' is no name of a hyper-parameter.", fix='{"data": {"C": 0.5}}')
        spec = model_spec(self._parts, model)
        key = manifest_id or loop.newest_key(self._parts, spec)
        folder = self._parts.settings.models_dir / spec.name
        check_python(spec, folder)
        wanted, finished = plan(spec, folder, loop.resolve(self._parts, spec, key), key, self._parts.records, params, again=False)
        if finished is not None:
            return finished
        with self._lock:
            if (known := self._asked.get(wanted.id)) is not None:
                return known
            if len(self._asked) >= self._most:
                raise Unavailable(f"{len(self._asked)} trainings wait already; this one was not begun.", fix="ask again later")
            asked = self._asked[wanted.id] = Asked(wanted.id, spec, key, dict(params), asked_by)
        self._queue.put(asked)
        return asked

    def find(self, model: str, run_id: str) -> Run | Asked:
        """A run by its id, or the training that will make it.

        Raises:
            NotFound: no such run of this model.
        """
        asked = self._asked.get(run_id)  # first: a failed run that is tried again has a record as well
        if asked is not None and asked.spec.name == model:
            return asked
        run = self._parts.records.run(run_id)
        if run is not None and run.model == model:
            return run
        raise NotFound(f"No run '{run_id}' of model '{model}'.", fix=f"mlops list runs --model {model}")

    def _run(self) -> None:
        while True:
            asked = self._queue.get()
            try:
                run = self._train(asked)
            except Exception as error:
                self._forget(asked)
                asked.done.set_exception(error)
            else:
                self._forget(asked)
                asked.done.set_result(run)

    def _train(self, asked: Asked) -> Run:
        tags = {"zebra.asked_by": asked.asked_by} if asked.asked_by else {}
        return loop.train_candidate(
            self._parts, asked.spec, asked.key, params=asked.params, tags=tags, log=log.info, actor=asked.asked_by or None
        ).run

    def _forget(self, asked: Asked) -> None:
        with self._lock:
            del self._asked[asked.run_id]
