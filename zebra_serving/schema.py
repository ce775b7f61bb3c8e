"""A model's columns, compiled once into a decoder that reads and checks a request in one pass.

The fast way in is one msgspec struct per model: names, types, arity and unknown fields are checked while the JSON is read
(about 2 us for 20 columns, against 1,500 us for MLflow's schema enforcement). Only when it refuses is the body read again,
slowly, by `refusals`, to name every field that is wrong. A row may bring its dataset's key columns along: the model never
sees them, but its event does, so that labels can find it. Built by the workshop when a version is loaded; knows no HTTP.
"""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from zebra_assets.contracts.model_folder import ModelFeature
from zebra_serving import refusals
from zebra_serving.problems import InputInvalid, TooLarge
from zebra_serving.refusals import MAX_ROWS
from zebra_serving.rows import Columns, Listed, Rows

# Fewer are rows, however they came: quicker so, and they may share a call with those of other requests.
BULK = 16

# A row's values are scalars, so `"rows": [` can only be the list of rows, even if a column is called "rows".
_BULK = re.compile(rb'\s*\{\s*"(?:(rows)"\s*:\s*\[|columns"\s*:\s*\{)')


class Moment(dt.datetime):
    """A timestamp as decoded: without a zone, in UTC where one was given. A date alone is its midnight, as it was in training."""

    @classmethod
    def read(cls, wanted: type, value: Any) -> dt.datetime:
        """msgspec's hook for types of ours; its own datetime refuses a bare date."""
        if not isinstance(value, str):
            raise ValueError("Expected `str`")
        moment = cls.fromisoformat(value)
        try:
            return moment if moment.tzinfo is None else moment.astimezone(dt.UTC).replace(tzinfo=None)
        except OverflowError as error:  # its zone puts it before the year 1, or after 9999
            raise ValueError("Expected a time of the years 1 to 9999") from error


@dataclass(frozen=True)
class _Kind:
    """One dtype of the data contracts: how JSON spells it, what it is decoded to, how Arrow holds it."""

    expected: str
    json: Any
    arrow: str
    openapi: dict[str, Any]


_INT64 = {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1}
_KINDS: dict[str, _Kind] = {
    "int64": _Kind("integer", Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)], "int64", _INT64),
    "float64": _Kind("number", float, "float64", {"type": "number"}),
    "string": _Kind("string", str, "string", {"type": "string"}),
    "bool": _Kind("boolean", bool, "bool", {"type": "boolean"}),
    "date": _Kind("date (YYYY-MM-DD)", dt.date, "date32", {"type": "string", "format": "date"}),
    "timestamp": _Kind("timestamp (YYYY-MM-DD[Thh:mm:ss])", Moment, "timestamp[us]", {"type": "string", "format": "date-time"}),
}


@lru_cache(maxsize=32)
def schema_of(features: tuple[ModelFeature, ...], keys: tuple[ModelFeature, ...] = ()) -> "RowSchema":
    """One schema for all versions with the same columns: its classes are cycles, which only a collection would free."""
    return RowSchema(features, keys)


class RowSchema:
    """The columns a model reads.

    Args:
        features: in the order the model was trained with.
        keys: columns that a row may bring along; those that are features are features.

    Attributes:
        names: of the features.
        recorded: of the features and, after them, the keys: what `Rows.values` holds.
        types: name -> what a value is decoded to.
        needed: the features' names.
        unmissed: places of the optional features of types that have no missing value in pandas.
        cast: whether there are features that MLflow reads otherwise than we do, whatever they hold.
    """

    def __init__(self, features: Sequence[ModelFeature], keys: Sequence[ModelFeature] = ()) -> None:
        self.features = tuple(features)
        self.names = [f.name for f in features]
        self.width = len(self.names)
        self.keys = tuple(k.model_copy(update={"required": False}) for k in keys if k.name not in self.names)
        self.recorded = [*self.names, *(k.name for k in self.keys)]
        self.arrow = [_KINDS[f.dtype].arrow for f in features]
        self.needed = frozenset(self.names)
        self.unmissed = [j for j, f in enumerate(features) if not f.required and f.dtype in ("int64", "bool")]
        self.cast = any(f.narrow or f.dtype in ("date", "timestamp") for f in features)
        columns = (*self.features, *self.keys)
        self.types = {f.name: _json_type(f) for f in columns}
        # Attributes are called f0, f1, …: a column's name need not be a Python identifier.
        fields = [(f"f{i}", self.types[f.name]) if f.required else (f"f{i}", self.types[f.name], None) for i, f in enumerate(columns)]
        row = msgspec.defstruct(
            "Row", fields, rename={f"f{i}": f.name for i, f in enumerate(columns)}, forbid_unknown_fields=True, kw_only=True, gc=False
        )
        batch = msgspec.defstruct("Batch", [("rows", list[row])], forbid_unknown_fields=True, gc=False)  # type: ignore[valid-type]
        listed = [(f"f{i}", _lists(f, self.types[f.name])) for i, f in enumerate(columns)]
        lists = [field if f.required else (*field, None) for field, f in zip(listed, columns, strict=True)]
        cells = msgspec.defstruct(
            "Cells", lists, rename={f"f{i}": f.name for i, f in enumerate(columns)}, forbid_unknown_fields=True, kw_only=True
        )
        self._cells: Any = cells
        table = msgspec.defstruct("Table", [("columns", cells)], forbid_unknown_fields=True)
        self._list: Any = list[row]  # type: ignore[valid-type]
        self._one = msgspec.json.Decoder(row, dec_hook=Moment.read)
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(batch, dec_hook=Moment.read)
        self._table: msgspec.json.Decoder[Any] = msgspec.json.Decoder(table, dec_hook=Moment.read)

    def decode(self, body: bytes) -> Rows:
        """Read ``{"rows": [{…}, …]}``, the same by column as ``{"columns": {"…": […], …}}``, or one bare row ``{…}``.

        Numbers: an integer is welcome where a float is asked for, a float never where an integer is, a boolean for neither.
        NaN and infinities have no JSON spelling and are refused. Columns the model does not require may be null or left out.

        Raises:
            Malformed: not JSON.
            InputInvalid: JSON that does not fit, with every wrong field up to 100.
            TooLarge: more than 10,000 rows.
        """
        try:
            if (bulk := _BULK.match(body)) is None:
                structs = [self._one.decode(body)]
            elif bulk[1]:
                structs = self._many.decode(body).rows
            else:
                return self.of_columns(msgspec.structs.astuple(self._table.decode(body).columns))
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            refusals.refuse(self, body, error)
        if not 0 < len(structs) <= MAX_ROWS:
            refusals.refuse_count(len(structs))
        return Rows(self, list(map(msgspec.structs.astuple, structs)))

    def convert(self, records: list[dict[str, Any]]) -> Rows:
        """Check rows that another protocol has brought as records; the same rules and errors as `decode`."""
        if not 0 < len(records) <= MAX_ROWS:
            refusals.refuse_count(len(records))
        try:
            structs = msgspec.convert(records, self._list, dec_hook=Moment.read)
        except msgspec.ValidationError as error:
            refusals.refuse_records(self, records, error)
        return Rows(self, [msgspec.structs.astuple(s) for s in structs])

    def convert_columns(self, columns: Mapping[str, Sequence[Any]]) -> Rows:
        """Check columns that another protocol has brought, all of one length; the same rules and errors as `decode`."""
        count = len(next(iter(columns.values()), ()))
        if not 0 < count <= MAX_ROWS:
            refusals.refuse_count(count)
        try:
            cells = msgspec.convert(columns, self._cells, dec_hook=Moment.read)
        except msgspec.ValidationError as error:
            refusals.refuse_records(self, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], error)
        return self.of_columns(msgspec.structs.astuple(cells))

    def of_columns(self, columns: Sequence[Sequence[Any] | None]) -> Rows:
        """Rows of cells that are known to fit: one column for each of `recorded`, None for one that was left out.

        Raises:
            InputInvalid: columns that differ in length, or no rows.
            TooLarge: more than 10,000 rows.
        """
        lengths = {name: len(cells) for name, cells in zip(self.recorded, columns, strict=True) if cells is not None}
        count = next(iter(lengths.values()), 0)
        if any(length != count for length in lengths.values()):
            refusals.refuse_lengths(lengths)
        if not 0 < count <= MAX_ROWS:
            refusals.refuse_count(count)
        filled = [[None] * count if cells is None else cells for cells in columns]
        return Rows(self, list(zip(*filled, strict=True))) if count < BULK else Columns(self, list(map(Listed, filled)), count)

    def fitting(self, given: list[dict[str, Any]] | Mapping[str, Sequence[Any]]) -> Rows | None:
        """Records or columns as `convert` and `convert_columns` check them; None, without a word why, where they do not fit."""
        try:
            if isinstance(given, list):
                structs = msgspec.convert(given, self._list, dec_hook=Moment.read)
                return Rows(self, [msgspec.structs.astuple(s) for s in structs]) if 0 < len(structs) <= MAX_ROWS else None
            return self.of_columns(msgspec.structs.astuple(msgspec.convert(given, self._cells, dec_hook=Moment.read)))
        except (msgspec.ValidationError, InputInvalid, TooLarge):
            return None

    def expected(self, feature: ModelFeature) -> str:
        """A column's values in words."""
        return _KINDS[feature.dtype].expected + ("" if feature.required else " or null")

    def fits(self, name: str, value: Any) -> bool:
        """Whether a JSON value is one of the column's."""
        try:
            msgspec.convert(value, self.types[name], dec_hook=Moment.read)
        except msgspec.ValidationError:
            return False
        return True

    def read(self, name: str, cells: Sequence[Any]) -> list[Any] | None:
        """A column's JSON values as `decode` reads them; None where one is not the column's."""
        try:
            return [msgspec.convert(cell, self.types[name], dec_hook=Moment.read) for cell in cells]
        except msgspec.ValidationError:
            return None

    def columns(self) -> list[dict[str, Any]]:
        """What `GET /model` says about each column."""
        return [{"name": f.name, "dtype": f.dtype, "json": _KINDS[f.dtype].expected, "required": f.required} for f in self.features]

    def example(self) -> dict[str, Any]:
        """A row of the right form, for descriptions; a model may know none of its words."""
        return {f.name: _EXAMPLES[f.dtype] for f in self.features}

    def openapi(self) -> dict[str, Any]:
        """One row as JSON Schema."""
        properties = {
            f.name: _KINDS[f.dtype].openapi if f.required else {"anyOf": [_KINDS[f.dtype].openapi, {"type": "null"}]}
            for f in (*self.features, *self.keys)
        }
        required = [f.name for f in self.features if f.required]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_EXAMPLES = {
    "int64": 1, "float64": 0.5, "string": "text", "bool": True, "date": "2026-01-31", "timestamp": "2026-01-31T12:00:00",
}  # fmt: skip


def _lists(feature: ModelFeature, kind: Any) -> Any:
    return list[kind] if feature.required else list[kind] | None


def _json_type(feature: ModelFeature) -> Any:
    plain = _KINDS[feature.dtype].json
    return plain if feature.required else plain | None
