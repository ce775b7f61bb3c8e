"""What versions answered on held-out rows: computed once per model bytes and rows, then read back from the object store."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.manifest import ColumnStats, Manifest
from zebra_assets.contracts.module_folder import is_module_folder
from zebra_assets.contracts.ports import Model
from zebra_assets.errors import Refused
from zebra_assets.loop.keys import held_out
from zebra_assets.parts import Parts

if TYPE_CHECKING:
    import pyarrow as pa


def predictions(parts: Parts, model: str, version: str, digest: str, manifest: Manifest, split: str) -> "pa.Table":
    """A version's predictions on a split, as `evaluation.predict` returns them.

    Args:
        digest: of the version's files; other bytes are not opened.

    Raises:
        Refused: the version's files differ from ``digest``, or bring code that nobody has approved.
        NotFound: no such version or split.
    """
    import pyarrow.parquet as pq

    key = _key(model, digest, manifest, split)
    if parts.store.exists(key):
        return pq.read_table(parts.store.fetch(key))
    from zebra_assets.evaluation.evaluate import predict

    table = predict(_opened(parts, model, version, digest), manifest, split, parts.store)
    with tempfile.TemporaryDirectory(prefix="zebra-") as scratch:
        path = Path(scratch) / "predictions.parquet"
        pq.write_table(table, path, compression="zstd")
        # Overwrites: two evaluators at once may differ in the last bit of a score, and either answer is right.
        parts.store.put(key, path, overwrite=True)
    return table


def _opened(parts: Parts, model: str, version: str, digest: str) -> Model:
    from zebra_assets.adapters.model_files import load_model

    folder = parts.registry.download(model, version, parts.settings.home / "cache" / "models")
    if is_module_folder(folder):
        from zebra_assets.adapters.own_code.trained import open_trained

        return open_trained(folder, digest)
    try:
        return load_model(folder, digest)
    except Refused as refusal:
        from zebra_assets.adapters.own_code.approved import open_approved

        return open_approved(folder, model, version, digest, parts.approvals, refusal)[0]


def prediction_baseline(parts: Parts, model: str, digest: str, manifests: Mapping[str, Manifest]) -> ColumnStats | None:
    """Summary of what a version answered on its held-out rows, to measure its answers in production by.

    Scores where it has some, values of a regression, classes otherwise. None where no evaluation left predictions: a
    monitor must not depend on a model that may be broken.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from zebra_assets.datasets.summary import categorical, numeric

    role = held_out(manifests)
    key = _key(model, digest, manifests[role], role)
    if not parts.store.exists(key):
        return None
    table = pq.read_table(parts.store.fetch(key), columns=["prediction", "score"])
    if table["score"].null_count < table.num_rows:
        return numeric(table["score"])
    answers = table["prediction"]
    if pa.types.is_floating(answers.type):
        return numeric(answers)
    # A yes or no without a score is kept as 1 or 0 here and in the label's own words in events: not comparable.
    return categorical(answers) if pa.types.is_string(answers.type) else None


def _key(model: str, digest: str, manifest: Manifest, split: str) -> str:
    return f"predictions/{model}/{digest_of([digest, manifest.id, split])[:32]}.parquet"
