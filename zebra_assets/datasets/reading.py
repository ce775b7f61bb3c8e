"""From a source to pieces in scratch, or to the error that says why not: read, order, have the blocks worked on, judge.

What one block needs is in `work`, who does it in `engines`; here the whole is put together, and what only the whole can
answer is asked. Called by `ingest`, which makes blobs and a manifest of the outcome.
"""

import logging
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.datasets.connector import Connector, match_columns
from zebra_assets.datasets.engine import Engine
from zebra_assets.datasets.leaks import refuse
from zebra_assets.datasets.order import REMEMBERED, Replay, in_order
from zebra_assets.datasets.preparing import Preparing
from zebra_assets.datasets.recall import Origins, Recall
from zebra_assets.datasets.seen import Seen, questions
from zebra_assets.datasets.split import SplitPlan
from zebra_assets.datasets.split import plan as split_plan
from zebra_assets.datasets.stream import Block, OutOfOrder, blocks, twice
from zebra_assets.datasets.table import Caster
from zebra_assets.datasets.validate import Check, conclude, refuse_broken
from zebra_assets.datasets.whole import Whole, gather
from zebra_assets.datasets.work import Done, Job, Together
from zebra_assets.errors import DataInvalid, NotFound

log = logging.getLogger(__name__)
Progress = Callable[[str, int | None], None]


@dataclass
class Work:
    """One ingest's way from the source to pieces in scratch."""

    spec: DatasetSpec
    connector: Connector
    project: Path
    engine: Engine
    scratch: Path
    store: ObjectStore
    progress: Progress

    @property
    def folder(self) -> Path:
        """Where pieces wait for the verdict."""
        return self.scratch / "pieces"

    def done(self) -> tuple[Whole, list[Check]]:
        """All blocks worked on, and nothing found that forbids a manifest.

        Raises:
            DataInvalid: something was.
        """
        self.folder.mkdir()
        caster = Caster(self.spec)
        replay = Replay(self._cast(caster), most=REMEMBERED if self.spec.key else 0)  # without a key, any order is the order
        try:
            whole, checks = self._judged(caster, blocks(replay, self.spec.key))
        except OutOfOrder:
            self.progress("order", None)
            for path in self.folder.iterdir():
                path.unlink()
            again = replay.again()
            if again is None:
                log.info("%s does not hand its rows over in key order; it is read again and sorted on disk", self.connector.location())
                caster = Caster(self.spec)
                again = self._cast(caster)
            ordered = in_order(again, self.spec.key, self.scratch)
            whole, checks = self._judged(caster, blocks(ordered, self.spec.key, positions=True))
        return whole, checks

    def _judged(self, caster: Caster, found: Iterator[Block]) -> tuple[Whole, list[Check]]:
        spec, asked = self.spec, questions(self.spec)
        plan = split_plan(spec, scratch=self.scratch)
        origins, recall = Origins(self.scratch), Recall(self.folder, self.store)
        if plan.needs_pass:
            found = twice(found, plan.observe, self.scratch, then=plan.settle)
        if asked:
            found = origins.noting(found)
        upload = None if self.engine.shares_disk else self.store
        job = Job(spec, plan, self.folder, asked, upload, Together(spec) if self.engine.shares_memory else None)
        with Seen(asked, spec, self.scratch) as seen, Preparing(self.folder, self.store) as preparing:

            def note(done: Done) -> None:
                seen.add(done.marks)
                preparing.note(done)
                if asked:
                    recall.note(done)

            whole = gather(job, self.engine.run(job, found), note)
            caster.finish()
            if not caster.rows:
                raise DataInvalid(
                    f"Dataset '{spec.name}': {self.connector.location()} has no rows.",
                    fix="fill the source, then: mlops ingest " + spec.name,
                )
            self.progress("check", whole.rows)
            checks = conclude(whole.findings, spec, repeats=seen.repeats(recall, origins))
            refuse_broken(checks, spec)
            _refuse_empty_splits(whole, plan, spec)
            refuse(seen.leaks(recall), spec)
        return whole, checks

    def _cast(self, caster: Caster) -> Iterator[pa.RecordBatch]:
        return cast_rows(self.spec, self.connector, self.project, caster, self.progress)


def cast_rows(spec: DatasetSpec, connector: Connector, project: Path, caster: Caster, progress: Progress) -> Iterator[pa.RecordBatch]:
    """The source's batches with the declared columns and dtypes; ``caster`` remembers what did not fit."""
    columns = {name: column.dtype for name, column in spec.columns.items()}
    known: list[str] = []
    try:
        for batch in connector.batches(columns):
            if (names := batch.schema.names) != known:
                match_columns(names, columns, connector.location())
                known = names
            if batch.num_rows:
                cast = caster.cast(batch)
                progress("read", caster.rows)
                yield cast
    except NotFound as error:
        script = Path("models") / spec.name / "source.py"
        if (project / script).is_file():
            raise NotFound(error.message, fix=f"cd {shlex.quote(str(project))} && {shlex.quote(sys.executable)} {script}") from error
        raise


def _refuse_empty_splits(whole: Whole, plan: SplitPlan, spec: DatasetSpec) -> None:
    have = whole.rows_by_split()
    empty = [name for name in plan.required if name not in have]
    if empty:
        raise DataInvalid(
            f"Dataset '{spec.name}': of {whole.rows:,} rows none falls into split {' or '.join(empty)}.",
            fix="give the source more rows, or set splits (fractions, salt, cuts) in dataset.yaml",
        )
