"""What an engine is: something that has row blocks worked on. One file each in engines/, chosen by the setting `ingest_engine`.

The same blocks give the same manifest on every engine, because a block's outcome depends on its rows alone.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

from zebra_assets.datasets.stream import Block
from zebra_assets.datasets.work import Done, Job


class Engine(Protocol):
    """Works on blocks. The class is the module's ``KIND``."""

    shares_memory: bool
    """Whether its workers are threads of this process."""
    shares_disk: bool
    """Whether files written by its workers are seen here; else they put their pieces into the object store at once."""

    def run(self, job: Job, blocks: Iterable[Block]) -> Iterator[Done]:
        """What each block came to, in the order of the blocks; few blocks are held at a time.

        Raises:
            Unavailable: there are no workers, or they keep dying.
        """
        ...
