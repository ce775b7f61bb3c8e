"""Model folder -> executable form, on the server's side: from the store of compiled forms, or by sending the folder to a child.

The store is `<home>/serving/compiled/<model digest>`; the same bytes are compiled once. What comes out of the store is as it was
sealed or is made anew from the model's own files, whose digest the ledger knows. A child that fails costs speed, never the
version: the plain form serves then, and `GET /model` says why.
"""

import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zebra_assets.contracts.model_folder import MODEL_FILE, ModelFeature, verify_model_folder
from zebra_assets.errors import Refused
from zebra_serving.compile.form import FORM_FILE, NUMPY, ONNX, PLAIN, TOLERANCE, Form, Golden, read_form
from zebra_serving.compile.forms import NumpyModel, OnnxModel, Plain
from zebra_serving.compile.seal import key_at, seal
from zebra_serving.files import locked, part, sweep, used_at
from zebra_serving.schema import RowSchema, schema_of
from zebra_serving.served import Model, Scored
from zebra_serving.weight import weighed

log = logging.getLogger(__name__)

# The shipped example takes 7 s of CPU; the version in force serves meanwhile.
TIMEOUT_S = 300
KEEP = 8
# What opening a form imports, which is not part of a model's weight.
_SKLEARN = ("zebra_assets.adapters.model_files", "pandas", "sklearn.compose", "sklearn.pipeline", "skops.io")
_LIBRARIES = {ONNX: ("onnxruntime",), NUMPY: (*_SKLEARN, "zebra_serving.compile.plan"), PLAIN: _SKLEARN}


@dataclass(frozen=True)
class Made:
    """A model ready to run, what was compared, which quicker forms were refused, and its weight in bytes."""

    schema: RowSchema
    model: Model
    checked: str
    refused: dict[str, str]
    golden: Golden | None
    weight: int = 0


class Workshop:
    """Opens model folders.

    Args:
        store: where compiled forms rest.
        keys: columns that a row may bring along.
    """

    def __init__(self, store: Path, keys: Sequence[ModelFeature] = ()) -> None:
        self._store, self._keys = store, keys

    def open(self, folder: Path, digest: str) -> Made:
        """The quickest form of the model in ``folder`` that answers like it.

        Raises:
            Refused: other bytes than ``digest``, or a folder that must not be opened.
        """
        card = verify_model_folder(folder, digest)
        schema = schema_of(tuple(card.features), tuple(self._keys))
        why, key, place = "", self._key(), self._store / part(digest)
        found = read_form(place, digest, key)
        if found is None:
            if place.exists():
                log.warning("the compiled form of %s was made by other versions or changed since, and is made anew", folder.name)
            with locked(self._lock_of(digest)):
                found = read_form(place, digest, key)  # another worker may have made it meanwhile
                if found is None:
                    why = self._compile(folder, digest, key)
                    found = read_form(place, digest, key)
        if found is None:
            reason = f"the compiler gave nothing: {why}"
            log.warning("%s is served as scikit-learn: %s", folder.name, reason)
            refused = {ONNX: reason, NUMPY: reason}
            return _weighed(lambda: _plain(folder, digest, refused, schema), (folder / MODEL_FILE).stat().st_size, PLAIN)
        form, graph = found
        for name, reason in form.refused.items():
            log.info("%s is not served as %s: %s", folder.name, name, reason)
        with suppress(FileNotFoundError):  # it was read; another one's pruning may have taken it away since
            os.utime(place / FORM_FILE)
        least = (folder / MODEL_FILE).stat().st_size if graph is None else len(graph)
        return _weighed(lambda: _made(folder, digest, schema, form, graph), least, form.form)

    def _key(self) -> bytes:
        """What forms are sealed with: kept beside the store, or for as long as this call where it cannot be."""
        try:
            return key_at(self._store.with_name(part(f"{self._store.name}.key")))
        except OSError as error:
            log.warning("compiled forms are not kept: %s", error)
            return secrets.token_bytes(32)

    def _compile(self, folder: Path, digest: str, key: bytes) -> str:
        """Run the child; why it failed, or nothing. Raises `Refused` where the child would not open the model."""
        self._store.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".compile-", dir=self._store))
        try:
            command = [sys.executable, "-m", "zebra_serving.compile", str(folder), digest, str(scratch / "form")]
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)
            if done.returncode == Refused.exit_code:
                raise _refusal(done.stderr)  # and not opened by this process either
            if done.returncode:
                return (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1][:300]
            seal(scratch / "form", digest, key)
            _remove(place := self._store / part(digest))
            (scratch / "form").replace(place)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)[:300]
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self._prune()
        return ""

    def _lock_of(self, digest: str) -> Path:
        return self._store.with_name(part(f"{self._store.name}.{digest[:12]}.lock"))

    def _prune(self) -> None:
        """Drop forms that nobody opened lately, but none that is being made at this moment."""
        sweep(self._store.parent, f"{self._store.name}.*.lock")
        found = ((used_at(form), form.parent) for form in self._store.glob(f"*/{FORM_FILE}"))
        for seen, old in sorted(found, reverse=True)[KEEP:]:
            with locked(self._lock_of(old.name), wait=False) as mine:
                if mine and used_at(old / FORM_FILE) == seen:
                    shutil.rmtree(old, ignore_errors=True)


def _refusal(said: str) -> Refused:
    """The child's own words: what it wrote last."""
    message, _, fix = said.strip().partition("\n  fix: ")
    return Refused((message.splitlines() or ["The model was refused."])[-1][:1000], fix=fix[:300] or None)


def _remove(path: Path) -> None:
    """Take a folder away, or whatever stands in its place; a link's target stays."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def differs(scored: Scored, golden: Golden) -> str | None:
    """How answers to the example rows differ from scikit-learn's own; None when they agree."""
    said: list[Any] = scored.labels
    if scored.scores is not None and golden.scores is not None:
        away = max(abs(a - b) for a, b in zip(scored.scores, golden.scores, strict=True))
        if away > TOLERANCE:
            return f"scores of its example rows are off by {away:.2g}"
    exact = [
        a == b or (isinstance(b, float) and abs(a - b) <= TOLERANCE * max(1.0, abs(b))) for a, b in zip(said, golden.labels, strict=True)
    ]
    return None if all(exact) else f"its example rows get {said}, not {golden.labels}"


def _weighed(make: Callable[[], Made], least: int, form: str) -> Made:
    made, weight = weighed(make, least, _LIBRARIES[form])
    return replace(made, weight=weight)


def _made(folder: Path, digest: str, schema: RowSchema, form: Form, graph: bytes | None) -> Made:
    if form.form == ONNX and graph is not None:
        try:
            return Made(schema, OnnxModel(form, graph), form.checked, form.refused, form.golden)
        except Exception as error:  # this machine's runtime is another one than the child's: slower, not absent
            return _plain(folder, digest, {**form.refused, ONNX: f"it does not open here: {error}"[:300]}, schema)
    if form.form == NUMPY:
        from zebra_assets.adapters.model_files import load_model
        from zebra_serving.compile.plan import plan

        loaded = load_model(folder, digest)
        return Made(schema, NumpyModel(form, replace(loaded, estimator=plan(loaded).tail)), form.checked, form.refused, form.golden)
    return _plain(folder, digest, form.refused, schema)


def _plain(folder: Path, digest: str, refused: dict[str, str], schema: RowSchema) -> Made:
    from zebra_assets.adapters.model_files import load_model

    return Made(schema, Plain(load_model(folder, digest)), "nothing to compare: scikit-learn itself answers", refused, None)
