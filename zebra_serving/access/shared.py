"""Work that several requests wait for at once and that is done once: comparing a secret, fetching an issuer's keys."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any


class Shared:
    """What is under way, by what it is about. Event loop only, so without a lock."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[None]] = {}

    def __contains__(self, about: Hashable) -> bool:
        return about in self._under_way

    async def wait(self, about: Hashable, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait until it is done, begun by ``begin`` where nobody has yet. Who stops waiting does not stop it: others wait, too."""
        task = self._under_way.get(about)
        if task is None:
            task = self._under_way[about] = asyncio.create_task(begin())
            task.add_done_callback(lambda _: self._under_way.pop(about))
        await asyncio.shield(task)
