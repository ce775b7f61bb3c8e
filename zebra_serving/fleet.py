"""The models of one server, by name, and which of them are in memory. Doors ask here whose plane a request is for.

The first model is loaded at start and stays. The others sleep until somebody asks for them; when the models in memory outweigh
the budget, versions kept for a rollback go first, then whole models, those asked the longest time ago before others. A model
with a request under way never goes. Composed by `app`.
"""

import asyncio
import logging
import threading
from collections.abc import Iterable, Iterator

from zebra_assets.errors import did_you_mean
from zebra_serving.deployment import Deployment
from zebra_serving.problems import NoSuchPath
from zebra_serving.weight import give_back

log = logging.getLogger(__name__)

# When a busy model is all that is left to go.
LOOK_AGAIN_S = 1.0


class Fleet:
    """Deployments of one alias.

    Args:
        deployments: at least one, each of another model; the first is the one meant where a request names none.
        memory_bytes: what the models in memory may weigh; None for any.
    """

    def __init__(self, deployments: Iterable[Deployment], memory_bytes: int | None = None) -> None:
        self._deployments = {deployment.model: deployment for deployment in deployments}
        self._memory_bytes = memory_bytes
        self._again: asyncio.TimerHandle | None = None
        self.default = next(iter(self._deployments.values()))

    @property
    def names(self) -> list[str]:
        """The models, the default one first."""
        return list(self._deployments)

    @property
    def weight(self) -> int:
        """Bytes of all versions in memory, see `weight`."""
        return sum(deployment.weight for deployment in self)

    def __iter__(self) -> Iterator[Deployment]:
        return iter(self._deployments.values())

    def __getitem__(self, model: str) -> Deployment:
        """Raises `NoSuchPath` for a model that this server does not serve."""
        found = self._deployments.get(model)
        if found is None:
            raise NoSuchPath(
                f"There is no model '{model[:64]}' here.{did_you_mean(model[:64], self.names)}",
                fix="GET /models lists them, or: python -m zebra_serving --model NAME",
            )
        return found

    def start(self) -> None:
        """Wake what is not lazy. In the event loop, where everything here runs: no answer is half-way between two of its turns."""
        loop = asyncio.get_running_loop()

        def changed() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.make_room)

        for deployment in self:
            deployment.changed = changed
            if not deployment.lazy:
                deployment.wake()

    def stop(self) -> None:
        """Let the running predictions end and write what was captured; of all models together, so that none waits for another's."""
        if self._again is not None:
            self._again.cancel()
        stopping = [threading.Thread(target=deployment.stop, name="stop", daemon=True) for deployment in self]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    def make_room(self) -> None:
        """Forget versions until the rest is within the budget, or nothing is left that may go."""
        if self._memory_bytes is None or self.weight <= self._memory_bytes:
            return
        oldest_first = sorted(self, key=lambda deployment: deployment.plane.used_at)
        for deployment in oldest_first:
            if self.weight > self._memory_bytes:
                deployment.loader.cool()
        for deployment in oldest_first:
            if self.weight > self._memory_bytes and deployment.lazy and not deployment.asleep and not deployment.busy:
                log.info("%s makes room: the models weigh %d MB together", deployment.model, self.weight >> 20)
                deployment.metrics.evictions.inc()
                deployment.sleep()
        threading.Thread(target=give_back, name="give-back", daemon=True).start()
        if self.weight > self._memory_bytes and any(deployment.busy for deployment in self if deployment.lazy):
            if self._again is not None:
                self._again.cancel()
            self._again = asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self.make_room)
