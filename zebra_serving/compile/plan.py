"""Take a fitted scikit-learn pipeline apart: the part that a recipe can say, and the tail that remains.

Runs in the compiling child only. Whatever has no exact counterpart in a recipe raises `CannotCompile` with the reason that
people read in `GET /model`; nothing is guessed, and `check` compares the result with the pipeline itself.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zebra_assets.adapters.model_files import LoadedModel
from zebra_serving.compile.recipe import Recipe, Table
from zebra_serving.rows import Rows
from zebra_serving.schema import RowSchema

_NUMBERS = frozenset({"int64", "float64", "bool"})
_ENCODERS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
# Larger tables cost more memory than the tail saves time.
MAX_KEYS = 200_000


class CannotCompile(Exception):
    """A pipeline that a recipe cannot say, and why."""


@dataclass
class Slot:
    """One column of the matrix: where it comes from and what is done to it."""

    source: int
    part: int = 0
    fill: float | None = None
    shift: float = 0.0
    scale: float = 1.0
    factor: float = 1.0
    offset: float = 0.0
    scaled: bool = False


@dataclass
class Plan:
    """``slots`` in the tail's order; ``tail`` predicts from the matrix alone."""

    tables: list[Table | None]
    slots: list[Slot]
    tail: Any

    def recipe(self, *, nan: bool, inf: bool) -> Recipe:
        """The plan as data."""
        starts = np.cumsum([0, *(1 if t is None else t.width for t in self.tables)])
        s = self.slots
        return Recipe(
            tables=self.tables, order=[int(starts[x.source]) + x.part for x in s], fill=[x.fill for x in s], shift=[x.shift for x in s],
            scale=[x.scale for x in s], factor=[x.factor for x in s], offset=[x.offset for x in s], nan=nan, inf=inf,
        )  # fmt: skip


def plan(loaded: LoadedModel) -> Plan:
    """Split ``loaded.estimator``.

    Raises:
        CannotCompile: with the step that stands in the way.
    """
    features, steps = loaded.features, _steps(loaded.estimator)
    if steps and type(steps[0]).__name__ == "ColumnTransformer":
        made = _columns(loaded, steps.pop(0))
    else:
        for f in features:
            _number(f)
        made = Plan([None] * len(features), [Slot(i) for i in range(len(features))], None)
    while len(steps) > 1 and _apply(steps[0], made.slots, range(len(made.slots))):
        steps.pop(0)
    made.tail = _tail(steps)
    if not made.slots:
        raise CannotCompile("the model reads no column at all")
    return made


def _steps(estimator: Any) -> list[Any]:
    """The steps of a pipeline, nested ones flattened; a lone estimator is a pipeline of one."""
    if type(estimator).__name__ != "Pipeline":
        return [estimator]
    return [inner for _, step in estimator.steps if step not in (None, "passthrough") for inner in _steps(step)]


def _tail(steps: list[Any]) -> Any:
    import copy

    from sklearn.pipeline import make_pipeline

    tail = copy.deepcopy(steps)
    # It will be fed with bare numbers: scikit-learn would look for the names of its columns.
    for step in tail:
        step.__dict__.pop("feature_names_in_", None)
    return tail[0] if len(tail) == 1 else make_pipeline(*tail)


def _number(feature: Any) -> None:
    if feature.dtype not in _NUMBERS:
        raise CannotCompile(f"column {feature.name} is a {feature.dtype} and is not encoded by a ColumnTransformer")
    if feature.dtype == "bool" and not feature.required:
        raise CannotCompile(f"column {feature.name} is a boolean that may be missing")


def _columns(loaded: LoadedModel, columns: Any) -> Plan:
    """A ColumnTransformer: each of its transformers either encodes values or scales numbers."""
    names = [f.name for f in loaded.features]
    made = Plan([Table([], [], [], 0)] * len(names), [], None)
    width = max((s.stop for s in columns.output_indices_.values()), default=0)
    slots: list[Slot | None] = [None] * width
    used: set[int] = set()
    for name, transformer, chosen in columns.transformers_:
        if transformer == "drop" or not len(chosen):
            continue
        at = [names.index(c) if isinstance(c, str) else int(c) for c in _listed(chosen)]
        if used & set(at):
            raise CannotCompile(f"column {names[min(used & set(at))]} is used by two transformers")
        used |= set(at)
        output = columns.output_indices_[name]
        steps = [] if transformer == "passthrough" else [s for s in _steps(transformer) if not _idle(s)]
        if any(type(s).__name__ in _ENCODERS for s in steps):
            found = _encoded(loaded, made, transformer, at)
        else:
            found = _scaled(loaded, made, steps, at)
        if len(found) != output.stop - output.start:
            raise CannotCompile(f"transformer {name} makes {output.stop - output.start} columns, {len(found)} were understood")
        slots[output] = found
    if any(s is None for s in slots):
        raise CannotCompile("a column of the ColumnTransformer's output comes from nowhere")
    made.slots = [s for s in slots if s is not None]
    return made


def _listed(chosen: Any) -> list[Any]:
    if isinstance(chosen, str | int):
        return [chosen]
    if isinstance(chosen, slice):
        raise CannotCompile("a transformer chooses its columns by a slice")
    listed = list(chosen)
    if listed and isinstance(listed[0], bool | np.bool_):
        return [i for i, taken in enumerate(listed) if taken]
    return listed


def _idle(step: Any) -> bool:
    return type(step).__name__ == "FunctionTransformer" and step.func is None


def _scaled(loaded: LoadedModel, made: Plan, steps: list[Any], at: list[int]) -> list[Slot]:
    for i in at:
        _number(loaded.features[i])
        made.tables[i] = None
    slots = [Slot(i) for i in at]
    for step in steps:
        if not _apply(step, slots, range(len(slots))):
            raise CannotCompile(f"{type(step).__name__} has no counterpart")
    return slots


def _apply(step: Any, slots: list[Slot], which: range) -> bool:
    """Add one fitted step to the slots it works on; False when a recipe cannot say it."""
    kind = type(step).__name__
    if kind == "SimpleImputer":
        fills = step.statistics_
        numeric = isinstance(step.missing_values, float) and np.isnan(step.missing_values) and np.asarray(fills).dtype.kind == "f"
        if not numeric or step.add_indicator or np.isnan(fills).any() or any(slots[i].scaled for i in which):
            return False
        for i in which:
            slots[i].fill = float(fills[i]) if slots[i].fill is None else slots[i].fill
        return True
    if kind not in ("StandardScaler", "MinMaxScaler") or any(slots[i].scaled for i in which):
        return False
    if kind == "MinMaxScaler" and step.clip:
        return False
    for i in which:
        slots[i].scaled = True
        if kind == "MinMaxScaler":
            slots[i].factor, slots[i].offset = float(step.scale_[i]), float(step.min_[i])
        else:
            slots[i].shift = float(step.mean_[i]) if step.with_mean else 0.0
            slots[i].scale = float(step.scale_[i]) if step.with_std else 1.0
    return True


def _encoded(loaded: LoadedModel, made: Plan, transformer: Any, at: list[int]) -> list[Slot]:
    """Ask the fitted transformer itself what each known value becomes, one column at a time."""
    encoder = next(s for s in _steps(transformer) if type(s).__name__ in _ENCODERS)
    if not hasattr(loaded.estimator, "feature_names_in_"):
        raise CannotCompile("the pipeline was fitted on columns without names")
    features, schema = loaded.features, RowSchema(loaded.features)
    keys = [_keys(features[i], encoder.categories_[n]) for n, i in enumerate(at)]
    base = [any_value(f) for f in features]
    for i, own in zip(at, keys, strict=True):
        base[i] = own[0]
    outputs = _owners(transformer, [features[i].name for i in at])

    def ask(i: int, values: list[Any]) -> np.ndarray:
        rows = [tuple(v if j == i else b for j, b in enumerate(base)) for v in values]
        frame = loaded.rows(Rows(schema, rows).table())
        found = transformer.transform(frame.iloc[:, at])
        return np.asarray(found.todense() if hasattr(found, "todense") else found, dtype=np.float64)

    slots: dict[int, Slot] = {}
    for n, i in enumerate(at):
        mine = [k for k, owner in enumerate(outputs) if owner == n]
        blocks: list[list[float] | None] = ask(i, keys[n])[:, mine].tolist()
        known: list[Any] = list(keys[n])
        if not features[i].required and None not in known:
            known.append(None)
            blocks.append(_tried(ask, i, None, mine))
        made.tables[i] = Table(known, blocks, _tried(ask, i, stranger(features[i], known), mine), len(mine))
        slots |= {k: Slot(i, part) for part, k in enumerate(mine)}
    return [slots[k] for k in sorted(slots)]


def _tried(ask: Any, i: int, value: Any, mine: list[int]) -> list[float] | None:
    """What the transformer makes of a value it may refuse."""
    if value is ...:
        return None
    try:
        return list(ask(i, [value])[0, mine].tolist())
    except ValueError:
        return None


def _keys(feature: Any, categories: Any) -> list[Any]:
    plain = [c.item() if isinstance(c, np.generic) else c for c in categories]
    keys = [None if c is None or (isinstance(c, float) and np.isnan(c)) else c for c in plain]
    if len(keys) > MAX_KEYS:
        raise CannotCompile(f"column {feature.name} has {len(keys):,} categories")
    kinds = {"string": str, "bool": bool, "int64": int | float, "float64": int | float}
    wanted = kinds.get(feature.dtype)
    if wanted is None or not keys or not all(k is None or isinstance(k, wanted) for k in keys):
        raise CannotCompile(f"column {feature.name} ({feature.dtype}) is encoded by values of another kind")
    return sorted(keys, key=lambda k: k is None)  # the first one stands in the base row and must be a value


def any_value(feature: Any) -> Any:
    """Some value of the column's type."""
    import datetime as dt

    plain = {"string": "", "bool": False, "int64": 0, "float64": 0.0, "date": dt.date(2000, 1, 1)}
    return plain.get(feature.dtype, dt.datetime(2000, 1, 1))  # noqa: DTZ001 - as decoded: without a zone


def stranger(feature: Any, keys: list[Any]) -> Any:
    """A value of the column's type that is not among the keys; ... where there is none."""
    if feature.dtype == "string":
        return "\x00 no such word"
    if feature.dtype == "bool":
        return next((v for v in (False, True) if v not in keys), ...)
    return max(k for k in keys if k is not None) + 1


def _owners(transformer: Any, names: list[str]) -> list[int]:
    """Which input column each output column comes from, by scikit-learn's own names: ``city`` or ``city_London``."""
    given = names if hasattr(transformer, "feature_names_in_") else None
    found = []
    for output in transformer.get_feature_names_out(given):
        fitting = [n for n, name in enumerate(names) if output == name or output.startswith(f"{name}_")]
        if not fitting:
            raise CannotCompile(f"it is not known where {output} comes from")
        found.append(max(fitting, key=lambda n: len(names[n])))
    return found
