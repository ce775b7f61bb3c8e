"""Why a body was refused, in words that help: read again, slowly, after the fast decoder of `schema` has said no.

A body of the wrong shape gets one error that shows the right one; rows of the right shape get one per value, up to 100.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from zebra_assets.errors import did_you_mean
from zebra_serving.problems import FieldError, InputInvalid, Malformed, TooLarge

if TYPE_CHECKING:
    from zebra_serving.schema import RowSchema

MAX_ROWS = 10_000
MAX_ERRORS = 100
# A guess at a name costs more than reading it; a body of a million strange ones is told what it is all the same.
MAX_HINTS, MAX_COUNTED, MAX_NAME = 20, 100_000, 64
SHAPE = 'send {"rows": [{"column": value, …}]}, {"columns": {"column": [value, …]}} or one bare row; GET /model shows the columns'

_NO_COLUMN = "no column of this name."
_PATH = re.compile(r" - at `\$(?:\.rows\[(\d+)\])?(?:\.(.+))?`$")
_MLFLOW = frozenset({"dataframe_split", "dataframe_records", "instances", "inputs"})


def refuse(schema: "RowSchema", body: bytes, fast: Exception) -> NoReturn:
    """Raise what is wrong with a body of `/predict`.

    Raises:
        Malformed: not JSON.
        InputInvalid: another shape, or values that do not fit.
        TooLarge: too many rows.
    """
    try:
        document = msgspec.json.decode(body)
    except msgspec.ValidationError as error:  # a number beyond the range of a float, such as 1e999
        raise _in_the_decoders_words(error, fast) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Malformed(f"The body is not JSON: {str(error).rstrip('.')}.", fix=SHAPE) from error
    if isinstance(document, dict) and isinstance(document.get("columns"), dict) and "columns" not in schema.types:
        _refuse_columns(schema, document, fast)
    rows, beside = _rows(schema, document)
    if not 0 < len(rows) <= MAX_ROWS:
        refuse_count(len(rows))
    found = [FieldError(0, name, "nothing beside `rows`", shown(value)) for name, value in beside.items()]
    if not found and (strange := _strangers(schema, rows)) is not None:
        raise _shapeless("The rows have none of the model's columns.", f"rows of {', '.join(schema.names)}"[:200], strange)
    _refuse_values(schema, rows, found, fast)


def refuse_records(schema: "RowSchema", records: list[dict[str, Any]], error: Exception) -> NoReturn:
    """Raise what is wrong with rows that another protocol has brought."""
    _refuse_values(schema, records, [], error)


def refuse_lengths(lengths: dict[str, int]) -> NoReturn:
    """Raise that not all columns have as many values as the first."""
    count = next(iter(lengths.values()))
    wrong = [FieldError(0, name, f"{count:,} values, as the first column has", f"{n:,}") for name, n in lengths.items() if n != count]
    raise InputInvalid(wrong[:MAX_ERRORS], len(wrong), message="The columns differ in length.")


def refuse_count(rows: int) -> NoReturn:
    """Raise that there are no rows, or too many."""
    if rows > MAX_ROWS:
        raise TooLarge(f"{rows:,} rows; {MAX_ROWS:,} is the limit of one request.", fix=f"send them in parts of {MAX_ROWS:,} or fewer")
    raise InputInvalid([FieldError(0, "rows", f"1 to {MAX_ROWS:,} rows", "none")], message="There are no rows.")


def shown(value: Any) -> str:
    """A JSON value for an error message, at most 60 characters of it."""
    try:
        text = msgspec.json.encode(value).decode()
    except RecursionError:  # it was read nearer to the stack's beginning than we are
        return f"{'an object' if isinstance(value, dict) else 'a list'}, nested too deeply to be shown"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _rows(schema: "RowSchema", document: Any) -> tuple[list[Any], dict[str, Any]]:
    """The rows that a document means, and what else it says beside them."""
    if isinstance(document, list):
        raise _shapeless("The body is a list.", "an object", shown(document))
    if not isinstance(document, dict):
        raise _shapeless("The body is no object.", "an object", shown(document))
    if "rows" in document and "rows" not in schema.types:
        beside = {name: value for name, value in document.items() if name != "rows"}
        if not isinstance(document["rows"], list):
            raise _shapeless("`rows` is no list.", "a list of rows", shown(document["rows"]))
        return document["rows"], beside
    if not document or document.keys() & schema.types.keys():
        return [document], {}
    if given := sorted(_MLFLOW & document.keys()):
        fix = "this body is MLflow's or the Open Inference Protocol's: POST it to /invocations or /v2/models/NAME/infer"
        raise InputInvalid([_whole("a row, or `rows`", given[0])], message="The body speaks another protocol.", fix=fix)
    raise _shapeless("The body has none of the model's columns.", "a row, or `rows`", ", ".join(document))


def _refuse_columns(schema: "RowSchema", document: dict[str, Any], error: Exception) -> NoReturn:
    columns: dict[str, Any] = document["columns"]
    if columns and not columns.keys() & schema.types.keys():
        raise _shapeless("The body has none of the model's columns.", f"columns of {', '.join(schema.names)}"[:200], ", ".join(columns))
    longest = max((len(cells) for cells in columns.values() if isinstance(cells, list)), default=0)
    if longest > MAX_ROWS:
        refuse_count(longest)
    found = [FieldError(0, name, "nothing beside `columns`", shown(value)) for name, value in document.items() if name != "columns"]
    for feature in (*schema.features, *schema.keys):
        cells, expected = columns.get(feature.name), schema.expected(feature)
        if isinstance(cells, list):
            found += [FieldError(i, feature.name, expected, shown(v)) for i, v in enumerate(cells) if not schema.fits(feature.name, v)]
        elif feature.required or cells is not None:
            found.append(FieldError(0, feature.name, f"a list, each {expected}", shown(cells) if feature.name in columns else "nothing"))
    found += [_stranger(0, name, cells) for name, cells in columns.items() if name not in schema.types]
    _refuse_found(schema, found, error)


def _strangers(schema: "RowSchema", rows: list[Any]) -> str | None:
    """What the first row is, if all rows are something else than objects with the model's columns."""
    if any(isinstance(row, dict) and (not row or row.keys() & schema.types.keys()) for row in rows):
        return None
    return ", ".join(rows[0]) if isinstance(rows[0], dict) else shown(rows[0])


def _shapeless(message: str, expected: str, got: str) -> InputInvalid:
    return InputInvalid([_whole(expected, got)], message=message, fix=SHAPE)


def _whole(expected: str, got: str) -> FieldError:
    return FieldError(0, None, expected, got if len(got) <= 60 else f"{got[:57]}…")


def _refuse_values(schema: "RowSchema", rows: list[Any], found: list[FieldError], error: Exception) -> NoReturn:
    _refuse_found(schema, chain(found, (wrong for number, row in enumerate(rows) for wrong in _errors(schema, number, row))), error)


def _refuse_found(schema: "RowSchema", found: Iterable[FieldError], error: Exception) -> NoReturn:
    told: list[FieldError] = []
    total = 0
    for total, wrong in enumerate(islice(found, MAX_COUNTED), start=1):
        if total <= MAX_ERRORS:
            told.append(wrong)
    if not told:
        raise _in_the_decoders_words(error, error) from error
    raise InputInvalid([*(_with_hint(schema, wrong) for wrong in told[:MAX_HINTS]), *told[MAX_HINTS:]], total) from error


def _errors(schema: "RowSchema", number: int, row: Any) -> Iterator[FieldError]:
    if not isinstance(row, dict):
        yield FieldError(number, None, "object of column: value", shown(row))
        return
    for feature in (*schema.features, *schema.keys):
        if feature.name in row:
            if not schema.fits(feature.name, row[feature.name]):
                yield FieldError(number, feature.name, schema.expected(feature), shown(row[feature.name]))
        elif feature.required:
            yield FieldError(number, feature.name, schema.expected(feature), "nothing")
    for name in row:
        if name not in schema.types:
            yield _stranger(number, name, row[name])


def _stranger(number: int, name: str, value: Any) -> FieldError:
    return FieldError(number, name[:MAX_NAME], _NO_COLUMN, shown(value))


def _with_hint(schema: "RowSchema", wrong: FieldError) -> FieldError:
    """Guess at what a strange name was meant to be."""
    if wrong.expected != _NO_COLUMN or wrong.field is None:
        return wrong
    return replace(wrong, expected=f"{_NO_COLUMN}{did_you_mean(wrong.field, list(schema.types))}")


def _in_the_decoders_words(error: Exception, located: Exception) -> InputInvalid:
    place = _PATH.search(str(located))
    row, field = (int(place[1] or 0), place[2]) if place else (0, None)
    return InputInvalid([FieldError(row, field, "a value within range", str(error).partition(" - at ")[0])])
