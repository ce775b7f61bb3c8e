"""Two versions of known quality, and many simulated lives of a canary between them.

The rows and the training are the shipped example's: version 1 knows the customers before the fibre launch, version 2 all of
them. Held-out customers (the recipe's valid and test rows, neither version saw them) come in random order, each is sent to
one of the versions by lot, and its true label arrives. Which version is better is known: both answered every held-out row.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra_assets.contracts.dataset_spec import load_dataset_spec
from zebra_assets.contracts.model_spec import load_model_spec
from zebra_assets.datasets.split import assign
from zebra_assets.evaluation.verdict import Outcomes

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "tabular-churn"
Array = NDArray[np.float64]


def qualities() -> dict[str, tuple[Array, Array]]:
    """Metric to (version 1, version 2): every held-out row's outcome, 0 to 1 and more is better."""
    source, train = _module("source"), _module("train")
    spec, recipe = load_model_spec(MODEL), load_dataset_spec(ROOT / "manifests" / "tabular-churn")
    everybody = source.customers()
    splits = assign(pa.Table.from_pandas(everybody, preserve_index=False), recipe.key, recipe.splits)
    fit = splits["train"].to_numpy(zero_copy_only=False)
    before = everybody["internet_service"] != "Fiber optic"
    held, features = everybody[~fit], [c for c in recipe.columns if c not in (*recipe.key, "churn")]
    words = [name for name in features if everybody[name].dtype == object]
    truth = (held["churn"] == "Yes").to_numpy()
    versions = []
    for known in (everybody[fit & before], everybody[fit]):
        model = train.build(words, 0, spec.hyperparams.params).fit(known[features], known["churn"])
        versions.append(model.predict_proba(held[features])[:, 1])
    return {
        "brier": tuple(1 - np.square(score - truth) for score in versions),
        "accuracy": tuple(((score > 0.5) == truth).astype(float) for score in versions),
    }  # type: ignore[return-value]


def lives(champion: Array, candidate: Array, *, share: float, rows: int, replays: int, seed: int) -> Outcomes:
    """``replays`` streams of ``rows`` outcomes: a customer drawn by lot, then a version drawn with chance ``share``."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, len(champion), size=(replays, rows))
    drawn = rng.random((replays, rows)) < share
    return Outcomes(np.where(drawn, candidate[who], champion[who]), drawn, np.full((replays, rows), share))


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"churn_{name}", MODEL / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
