"""What this server remembers of each version's predictions: one window per version and hour, written every few seconds.

    a request ─ add ─> rows that wait ─ fold (a thread of its own) ─> sketches ─ flush (the capture's thread) ─> the store

A request pays for keeping a reference. What waits is kept apart by version, so those of a route may answer in any order. Folding
costs under a microsecond a row, and beyond `ROWS_PER_S` only a random part of the rows (of bulk requests: none of some of them) is
folded, so that the whole stays below 2 % of a core whatever the load; how many that left out is in the window.
Written windows are replaced by their id, so a store that was away loses nothing and a restart begins a window of its own.
"""

import itertools
import logging
import random
import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from threading import Lock

from zebra_assets.contracts.noun import now
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.sketch import Sketches, WindowSketch
from zebra_serving.budget import Budget
from zebra_serving.recording import Recording
from zebra_serving.rows import Columns, Listed, Rows
from zebra_serving.schema import RowSchema
from zebra_serving.served import Scored, Served
from zebra_serving.sketches import Numbers, Words, kept

log = logging.getLogger(__name__)

ROWS_PER_S = 20_000
BURST_ROWS = 20_000
# A row costs as much in a lot of 512 as in one of 4096, and the interpreter is held for a quarter of the time: 1.4 ms by 20 columns.
# The rows that wait are also the memory that comes and goes, 80,000 Python objects by 4096 of them.
FOLD_AT = 1024
# Lots that wait to be folded, each with the rows of all versions that answered meanwhile: 0.2 s of the fastest rows; more mean that
# nobody folds. A lot is some 0.7 MB of Python objects by 19 columns, and what a moment of delay fills once, the interpreter keeps.
MAX_FULL = 4
# Of a bulk request at least so many rows or none: a sketch takes 500 at once for little more than it takes 20.
LUMP = 500
# Finished windows that the store has not taken yet: three days of hours.
MAX_UNWRITTEN = 72
# Windows that go on, and versions in a lot: what is in force, a route's eight candidates, and the next one in force. A version that
# comes back after as many others begins another window.
MAX_OPEN = 10

_number = itertools.count(1)


@dataclass
class _Waiting:
    """Rows of one version that are not folded yet."""

    promotion: Promotion
    schema: RowSchema
    values: list[tuple[object, ...]] = field(default_factory=list)
    blocks: list[Columns] = field(default_factory=list)
    labels: list[object] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    passed_over: int = 0

    def parts(self) -> list[Rows]:
        """The rows as they came: those of small requests together, those of each bulk request."""
        return [*([Rows(self.schema, self.values)] if self.values else []), *self.blocks]


class Window:
    """One version's sketches for one hour."""

    def __init__(self, promotion: Promotion, schema: RowSchema, recording: Recording, server: str, began: datetime) -> None:
        self.rows = self.sketched = 0
        self.began = self.ended = began
        self._promotion = promotion
        shown = [(i, feature) for i, feature in enumerate(schema.features) if recording.shows(feature.name)]
        self._recorded = [i for i, _ in shown]
        self.columns: dict[str, Numbers | Words] = {
            f.name: Words(partial(recording.hash, f.name)) if f.name in recording.hashed else kept(f.dtype) for _, f in shown
        }
        self.answers: Numbers | Words | None = None
        p = promotion
        self.id = f"{p.model}-{p.version}-{began:%Y%m%dT%H}-{server}-{next(_number)}"

    def fold(self, waiting: _Waiting, at: datetime) -> None:
        """Take rows in."""
        self.rows += len(waiting.labels) + waiting.passed_over
        self.sketched += len(waiting.labels)
        self.ended = at
        if not waiting.labels:
            return
        for part in waiting.parts():
            columns = part.columns()
            for i, sketch in zip(self._recorded, self.columns.values(), strict=True):
                sketch.add(columns[i])
        said = waiting.scores or waiting.labels
        if self.answers is None:
            self.answers = kept("float64" if waiting.scores or isinstance(said[0], float) else "string")
        self.answers.add(Listed(said))

    def noun(self) -> WindowSketch:
        """The window as it is stored."""
        p = self._promotion
        return WindowSketch(
            id=self.id, model=p.model, version=p.version, manifest_id=p.manifest_id, window_start=self.began, window_end=self.ended,
            rows=self.rows, sketched=self.sketched, columns={name: sketch.noun() for name, sketch in self.columns.items()},
            prediction=(self.answers or Words()).noun(),
        )  # fmt: skip


class Memory:
    """The windows of one server.

    Args:
        store: where windows rest; None to keep none.
        recording: which columns may be remembered, and as what.
    """

    def __init__(self, store: Sketches | None, recording: Recording) -> None:
        self._store, self._recording = store, recording
        self._server = secrets.token_hex(4)
        self._budget = Budget(ROWS_PER_S, BURST_ROWS)
        self._lock, self._folding = Lock(), Lock()
        # By the identity of the promotion, which the lot itself keeps alive: its fields would be hashed for every request.
        self._now: dict[int, _Waiting] = {}
        self._waiting = 0
        self._full: deque[dict[int, _Waiting]] = deque()
        self._windows: dict[tuple[str, str], Window] = {}
        self._unwritten: dict[str, Window] = {}

    def add(self, served: Served, rows: Rows, scored: Scored) -> bool:
        """Keep a reference to answered rows, or count them, where they are more than the budget allows or nobody folds what waits.

        Returns:
            Whether folding is due.
        """
        if self._store is None:
            return False
        count = len(rows)
        part = self._budget.take(count, LUMP) if len(self._full) < MAX_FULL else 0
        if 0 < part < count:
            step = slice(random.randrange(count // part), None, count // part)  # noqa: S311 - a sample
            rows, scored = rows.part(step), scored.part(step)
        promotion, due = served.promotion, False
        with self._lock:
            waiting = self._now.get(id(promotion))
            if waiting is None:
                if due := len(self._now) >= MAX_OPEN:
                    if len(self._full) >= MAX_FULL:  # nobody folds, and versions come and go: they must not pile up either
                        return True
                    self._turn()
                waiting = self._now[id(promotion)] = _Waiting(promotion, served.schema)
            if not part:
                waiting.passed_over += count
                return due
            if not isinstance(rows, Columns):
                waiting.values += rows.values
            else:
                # A copy, even of all: the columns' own memory may be the request's whole body.
                waiting.blocks.append(rows.part(slice(None)) if part == count else rows)
            waiting.labels += scored.labels
            waiting.scores += scored.scores or ()
            taken = len(rows)
            waiting.passed_over += count - taken
            self._waiting = together = self._waiting + taken
            if together < FOLD_AT:
                return due
            self._turn()
        return True

    def fold(self) -> None:
        """Take what waits into the windows."""
        with self._folding:
            with self._lock:
                self._turn()
            while self._full:
                for waiting in self._full.popleft().values():
                    at = now()
                    try:
                        self._window(waiting, at).fold(waiting, at)
                    except Exception:  # a fault of ours must not end the memory of all that follows
                        log.exception("%d predictions are in no sketch", len(waiting.labels))

    def flush(self) -> None:
        """Write the windows that changed. Raises what the store raises; they are written the next time then."""
        if self._store is None:
            return
        for name, window in list(self._unwritten.items()):
            with self._folding:
                noun = window.noun()
            self._store.save(noun)
            with self._folding:
                if window.rows == noun.rows:  # else it has grown meanwhile, and is written the next time
                    self._unwritten.pop(name, None)

    def close(self) -> None:
        """Forget everything; the sketches' library complains at the interpreter's end about any that are left."""
        self._now = {}
        self._full.clear()
        self._windows.clear()
        self._unwritten.clear()

    def _turn(self) -> None:
        if self._now:
            self._full.append(self._now)
            self._now, self._waiting = {}, 0

    def _window(self, waiting: _Waiting, at: datetime) -> Window:
        promotion = waiting.promotion
        version = (promotion.version, promotion.manifest_id)
        window = self._windows.get(version)
        if window is None or (window.began.date(), window.began.hour) != (at.date(), at.hour):
            self._windows.pop(version, None)
            window = self._windows[version] = Window(promotion, waiting.schema, self._recording, self._server, at)
            if len(self._windows) > MAX_OPEN:
                del self._windows[next(iter(self._windows))]
        self._unwritten[window.id] = window
        while len(self._unwritten) > MAX_UNWRITTEN:
            oldest = next(iter(self._unwritten))
            log.error("window %s was never written: the store is away", oldest)
            del self._unwritten[oldest]
        return window
