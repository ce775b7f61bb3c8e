"""From a promotion to a version that may serve: download, verify, load, self-test. Any doubt is a `BadCandidate`.

Runs in threads of the loader and the router, never in the event loop. Files rest in `<cache>/<model>/<version>-<digest12>`,
complete or not there at all, so a server restarts without MLflow; their digest is checked every time they are opened. A version is
prepared by one thread at a time, under a lock of its own: one whose download hangs holds up no other.
"""

import logging
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from zebra_assets.contracts.model_folder import check_bytes
from zebra_assets.contracts.names import safe_join
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import Records
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.errors import Refused, ZebraError
from zebra_serving.answer import predict
from zebra_serving.compile.form import Golden
from zebra_serving.compile.workshop import Workshop, differs
from zebra_serving.examples import EXAMPLE, request_of
from zebra_serving.fetch import Source
from zebra_serving.files import Hold, locked, part, read_only, sweep, used_at
from zebra_serving.own_code import OwnCodeShop
from zebra_serving.problems import InputInvalid
from zebra_serving.rows import Rows
from zebra_serving.served import Served, datatype_of

log = logging.getLogger(__name__)

# Folders kept beside the one in force: enough for a rollback or two without a download.
KEEP = 4


class BadCandidate(ZebraError):
    """A promoted version that must not serve.

    Args:
        reason: one word for the metrics: download, refused, load, self_test or fault.
    """

    def __init__(self, reason: str, error: Exception) -> None:
        if isinstance(error, ZebraError):
            super().__init__(error.message, fix=error.fix)
        else:
            super().__init__(f"{type(error).__name__}: {error}")
        self.reason = reason


class Staging:
    """Prepares versions of one model.

    Args:
        cache: `<home>/serving/cache`.
        records: where the evaluation's figures are; None to serve without them.
        workshop: opens a model folder after checking its digest.
        own_code: opens what the workshop refuses because it brings code, where an approver has said so.
    """

    def __init__(self, cache: Path, registry: Source, records: Records | None, workshop: Workshop, own_code: OwnCodeShop) -> None:
        self._cache, self._registry, self._records = cache, registry, records
        self._workshop, self._own_code = workshop, own_code

    def prepare(self, promotion: Promotion) -> Served:
        """A version in memory, tested, with the digest that the ledger names.

        Raises:
            BadCandidate: it must not serve, with the reason.
        """
        folder = self.folder(promotion)
        # Several servers and workers share the folders: the first one downloads, the others find what it has left.
        with locked(_lock_of(folder)):
            return self._prepare(promotion, folder)

    def folder(self, promotion: Promotion) -> Path:
        """Where the version's files rest once it was prepared."""
        return safe_join(self._cache, promotion.model, part(f"{promotion.version}-{promotion.model_digest[:12]}"))

    def _prepare(self, promotion: Promotion, folder: Path) -> Served:
        cached = folder.is_dir()
        if not cached:
            self._download(promotion, folder)
        try:
            served = self._open(promotion, folder)
        except BadCandidate:
            # Other bytes than the ledger names are not kept: the next attempt downloads anew, and so does this one if they were old.
            # The right ones stay whatever went wrong: with MLflow away they are all there is, and a download would bring the same.
            if not _turned(folder, promotion.model_digest):
                raise
            _discard(folder)
            if not cached:
                raise
            self._download(promotion, folder)
            served = self._open(promotion, folder)
        read_only(folder)
        self._prune(folder)
        with suppress(OSError):  # where nothing can be written, nothing is pruned
            served = replace(served, hold=Hold(_use_of(folder)))
        return served

    def still_stands(self, served: Served) -> bool:
        """Whether a version that was kept warm may serve again: what runs its own code needs an approval at that moment, too."""
        if served.approval is None:
            return True
        try:
            return self._own_code.proven(served.promotion).seq == served.approval.seq
        except ZebraError:
            return False

    def _download(self, promotion: Promotion, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".download-", dir=folder.parent))
        try:
            self._registry.download(promotion.model, promotion.version, scratch / "model").replace(folder)
        except Exception as error:
            raise BadCandidate("download", error) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _open(self, promotion: Promotion, folder: Path) -> Served:
        approval = None
        try:
            try:
                made = self._workshop.open(folder, promotion.model_digest)
            except Refused as refusal:
                made, approval = self._own_code.open(promotion, folder, refusal)
        except Refused as error:
            raise BadCandidate("refused", error) from error
        except Exception as error:
            raise BadCandidate("load", error) from error
        untested = "none: the model folder has no input_example.json"
        served = Served(
            promotion,
            made.schema,
            made.model,
            now(),
            untested,
            metrics=self._figures(promotion),
            checked=made.checked,
            refused=made.refused,
            weight=made.weight,
            approval=approval,
        )
        try:
            return self._self_test(served, folder / EXAMPLE, made.golden)
        except InputInvalid as error:
            wrong = "; ".join(f"{e.field}: expected {e.expected}, got {e.got}" for e in error.errors[:3])
            raise BadCandidate("self_test", ZebraError(f"Its own input example is refused: {wrong or error.message}")) from error
        except Exception as error:
            raise BadCandidate("self_test", error) from error

    def _self_test(self, served: Served, example: Path, golden: Golden | None) -> Served:
        """Ask the version about the rows stored beside it, through the same checks as a request, and time a lone one."""
        if not example.is_file():
            return served
        rows = served.schema.decode(request_of(example))
        scored = predict(served, rows)
        if len(scored.labels) != len(rows):
            raise ZebraError(f"It gave {len(scored.labels)} answers to {len(rows)} example rows.")
        if golden is not None and (difference := differs(scored, golden)) is not None:
            raise ZebraError(f"Its form '{served.model.form}' gives other answers here than where it was compiled: {difference}.")
        lone = Rows(rows.schema, rows.values[:1])
        call_s = min(_seconds(served, lone) for _ in range(5))  # the least of 5: what a call costs when nothing else runs
        done = f"{len(rows)} example row{'s' if len(rows) != 1 else ''} answered, a lone one in {call_s * 1e3:.3g} ms"
        return replace(served, self_test=done, call_s=call_s, outputs=(datatype_of(scored.labels[0]), scored.scores is not None))

    def _figures(self, promotion: Promotion) -> dict[str, float]:
        """The evaluation's metrics of this version; they are decoration, so their absence stops nothing."""
        if self._records is None:
            return {}
        try:
            report = self._records.report_for(promotion.run_id)
        except ZebraError as error:
            log.warning("no metrics for version %s: %s", promotion.version, error.message)
            return {}
        return dict(report.candidate.metrics) if report else {}

    def _prune(self, used: Path) -> None:
        """Drop old versions, and what a killed process left an hour ago (a younger one may be another server's)."""
        used.touch()
        for scratch in used.parent.glob(".download-*"):
            if time.time() - used_at(scratch) > 3600:
                shutil.rmtree(scratch, ignore_errors=True)
        sweep(used.parent, ".*.lock")
        found = ((used_at(p), p) for p in used.parent.iterdir() if p != used and not p.name.startswith("."))
        for seen, old in sorted(found, reverse=True)[KEEP:]:
            # What another one is preparing stays, what it has prepared since we looked, and what serves somewhere.
            with locked(_lock_of(old), wait=False) as mine, locked(_use_of(old), wait=False) as unused:
                if mine and unused and used_at(old) == seen:
                    _discard(old)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(part(f".{folder.name}.lock"))


def _use_of(folder: Path) -> Path:
    return folder.with_name(part(f".{folder.name}.used"))


def _turned(folder: Path, digest: str) -> bool:
    """Whether the folder has other bytes than ``digest`` promises; False where nobody can say."""
    try:
        check_bytes(folder, digest)
    except Refused:
        return True
    except OSError:
        return False
    return False


def _discard(folder: Path) -> None:
    """Remove a version's folder, or whatever a download left in its place."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    for path in (folder, *(p for p in folder.rglob("*") if p.is_dir() and not p.is_symlink())):
        path.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def _seconds(served: Served, rows: Rows) -> float:
    began = time.perf_counter()
    predict(served, rows)
    return time.perf_counter() - began
