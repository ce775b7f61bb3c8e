"""The models of one server, by name. Doors ask here whose plane a request is for; `app` composes it."""

from collections.abc import Iterable, Iterator

from zebra_assets.errors import did_you_mean
from zebra_serving.deployment import Deployment
from zebra_serving.problems import NoSuchPath


class Fleet:
    """Deployments of one alias.

    Args:
        deployments: at least one, each of another model; the first is the one meant where a request names none.
    """

    def __init__(self, deployments: Iterable[Deployment]) -> None:
        self._deployments = {deployment.model: deployment for deployment in deployments}
        self.default = next(iter(self._deployments.values()))

    @property
    def names(self) -> list[str]:
        """The models, the default one first."""
        return list(self._deployments)

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
        """Begin to follow the ledger."""
        for deployment in self:
            deployment.start()

    def stop(self) -> None:
        """Let the running predictions end and write what was captured."""
        for deployment in self:
            deployment.stop()
