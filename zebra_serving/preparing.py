"""The thread beside the polling that prepares versions, and what becomes of one whose preparation hangs.

    begin -> the worker prepares -> lands what it found -> waits for the next
               └ abandoned meanwhile: nothing lands, the worker ends when it can, the next one gets another worker

One worker serves for thousands of changes: a thread a change would touch new memory each time, which the allocator keeps.
"""

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

# Workers that hang, each with a download that ends after half an hour at most; more are not started beside them.
MAX_ABANDONED = 4


class Preparation:
    """One preparation under way.

    Attributes:
        over: set once it has landed, or never will.
    """

    def __init__(self, work: Callable[[], Callable[[], None]]) -> None:
        self.over = threading.Event()
        self._work = work
        self._lock = threading.Lock()
        self._landing = self._abandoned = False

    def run(self) -> None:
        """In the worker: do the work, and let what it returns take effect, if it is still wanted."""
        try:
            land = self._work()
            with self._lock:
                if self._abandoned:
                    return
                self._landing = True
            land()
        except Exception:  # a fault of ours must not end the worker
            log.exception("what was prepared did not take effect")
        finally:
            del self._work  # what it holds is not kept until the next change
            self.over.set()

    def abandon(self) -> bool:
        """Never let it land; False if it has, or does at this moment."""
        with self._lock:
            self._abandoned = not self._landing
        if self._abandoned:
            self.over.set()
        return self._abandoned


class Preparing:
    """The worker of one loader, which is started with the first preparation. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Preparation | None] | None = None
        self._thread: threading.Thread | None = None
        self._now: Preparation | None = None
        self._left: list[threading.Thread] = []

    def begin(self, work: Callable[[], Callable[[], None]]) -> Preparation | None:
        """Run ``work``, which returns what makes it count, beside the caller; None while too many hang.

        What is under way is abandoned.
        """
        with self._lock:
            self._leave()
            self._left = [thread for thread in self._left if thread.is_alive()]
            if self._inbox is None:
                if len(self._left) >= MAX_ABANDONED:
                    return None
                inbox = queue.SimpleQueue[Preparation | None]()
                thread = threading.Thread(target=_run, args=(inbox,), name="prepare", daemon=True)
                thread.start()
                self._inbox, self._thread = inbox, thread
            self._now = Preparation(work)
            self._inbox.put(self._now)
            return self._now

    def abandon(self, preparation: Preparation) -> bool:
        """Never let it land, and give its worker up; False if it has landed, or does at this moment."""
        with self._lock:
            if preparation is self._now:
                return self._leave()
            return preparation.abandon()

    def end(self) -> None:
        """Abandon what is under way and let the worker go; `begin` starts another."""
        with self._lock:
            if not self._leave():
                self._dismiss()

    def _leave(self) -> bool:
        if self._now is None or self._now.over.is_set() or not self._now.abandon():
            return False
        self._dismiss()
        return True

    def _dismiss(self) -> None:
        if self._inbox is not None and self._thread is not None:
            self._inbox.put(None)
            self._left.append(self._thread)
        self._inbox = self._thread = self._now = None


def _run(inbox: "queue.SimpleQueue[Preparation | None]") -> None:
    while (now := inbox.get()) is not None:
        now.run()
        now = None  # while it waits, this thread keeps no version in memory
