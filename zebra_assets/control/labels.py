"""Labels come home: a CSV of truths about earlier predictions becomes label events.

A row names its prediction by the `event_id` that /predict answered, or by the `request_id` of a request of one row. Called
by `mlops label`; what the labels are good for is the events connector's and the drift station's matter.
"""

import csv
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from zebra_assets.contracts.dataset_spec import ColumnSpec, moment
from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.events import Event, LabelEvent
from zebra_assets.contracts.noun import now
from zebra_assets.control.specs import dataset_spec, model_spec
from zebra_assets.errors import DataInvalid, NotFound, SpecInvalid
from zebra_assets.parts import Parts

Key = Literal["event_id", "request_id"]
Label = str | float | int | bool
BATCH = 1000
EVENT_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")  # as `contracts.events` has it
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Labelled:
    """What a file of labels came to: rows read, labels that are news, and how many name a prediction nobody captured yet."""

    rows: int
    new: int
    waiting: int


@dataclass(frozen=True)
class _Row:
    """One line: what it names, its label, and since when that is known, where it says so."""

    line: int
    name: str
    label: Label
    ts: datetime | None


def label(parts: Parts, model: str, file: Path) -> Labelled:
    """Store the labels of a CSV with the columns `event_id` or `request_id`, `label` and, where known, `ts`.

    `label` may also be called as in the dataset. `ts` is since when the label is known (ISO 8601, UTC where it names no
    zone); by default since now. A label that says what holds already is no news, so a file may be sent again; another
    value corrects the one before. All lines are checked before the first is stored.

    Raises:
        NotFound: no such model or file; none of the predictions is known.
        DataInvalid: lines that cannot be used: number, reason, up to five.
    """
    column, spec = _label_column(parts, model)
    key, rows = _read(file, column, spec)
    named = {row.name for row in rows}
    events = _events_by_name(parts, model, key, named, file)
    known = parts.events.known(model, events.values())
    if not known:
        raise NotFound(
            f"{file}: none of its {len(rows):,} lines names a prediction of '{model}'.",
            fix="use the event_id that /predict answered; it is null where a prediction was not captured",
        )
    facts = _news(parts, model, rows, events)
    new = sum(parts.events.append(facts[start : start + BATCH]) for start in range(0, len(facts), BATCH))
    if new:
        parts.audit.append(parts.settings.who, "labels.added", model, {"file": file.name, "labels": new})
    return Labelled(rows=len(rows), new=new, waiting=len(set(events.values()) - known))


def _label_column(parts: Parts, model: str) -> tuple[str, ColumnSpec]:
    dataset = dataset_spec(parts, model_spec(parts, model).datasets.roles()["train"])
    if dataset.label is None:
        raise SpecInvalid(f"Dataset '{dataset.name}' declares no label.", fix=f"add label: to manifests/{dataset.name}/dataset.yaml")
    return dataset.label.column, dataset.columns[dataset.label.column]


def _read(file: Path, column: str, spec: ColumnSpec) -> tuple[Key, list[_Row]]:
    """The column that names predictions, and the rows, each prediction and moment once."""
    rows: dict[tuple[str, datetime | None], _Row] = {}
    wrong: list[str] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            lines = csv.DictReader(text)
            key, said = _header(list(lines.fieldnames or []), column, file)
            for cells in lines:
                try:
                    row = _row(lines.line_num, cells, key, said, spec)
                    other = rows.setdefault((row.name, row.ts), row)
                    if other.label != row.label:
                        raise ValueError(f"says {row.label!r} of {row.name}; line {other.line} says {other.label!r}")
                except ValueError as error:
                    wrong.append(f"line {lines.line_num}: {error}")
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {file}.", fix="mlops label MODEL labels.csv") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataInvalid(f"{file} cannot be read as CSV: {error}.", fix="save it as UTF-8 CSV") from error
    if wrong or not rows:
        what = f"{len(wrong):,} lines cannot be used:\n  " + "\n  ".join(wrong[:5]) if wrong else "no lines below the header."
        raise DataInvalid(f"{file}: {what}", fix="correct the lines; nothing was stored")
    return key, list(rows.values())


def _header(names: list[str], column: str, file: Path) -> tuple[Key, str]:
    key: Key | None = "event_id" if "event_id" in names else "request_id" if "request_id" in names else None
    said = next((name for name in ("label", column) if name in names), None)
    if key is None or said is None:
        raise DataInvalid(
            f"{file} has the columns {', '.join(names) or 'none'}.",
            fix=f"name them event_id (or request_id), {column} (or label) and, where known, ts",
        )
    return key, said


def _row(line: int, cells: Mapping[str, str | None], key: Key, said: str, spec: ColumnSpec) -> _Row:
    name, text, ts = cells[key], cells[said], cells.get("ts")
    if not name or not text:
        raise ValueError(f"has no {said if name else key}")
    if key == "event_id" and not EVENT_ID.fullmatch(name):
        raise ValueError(f"{name!r} is no event id")
    return _Row(line, name, _value(text, spec), moment(ts).astimezone(UTC) if ts else None)


def _value(text: str, spec: ColumnSpec) -> Label:
    """The label as the dataset types it; `ValueError` when it is none."""
    value: Label = text
    if spec.dtype == "int64":
        value = int(text)
    elif spec.dtype == "float64":
        value = float(text)
    elif spec.dtype == "bool":
        if text.lower() not in _BOOLS:
            raise ValueError(f"{text!r} is neither true nor false")
        value = _BOOLS[text.lower()]
    if spec.values is not None and value not in spec.values:
        raise ValueError(f"{text!r} is none of {', '.join(map(str, spec.values))}")
    return value


def _events_by_name(parts: Parts, model: str, key: Key, names: Collection[str], file: Path) -> dict[str, str]:
    """What each name in the file stands for, as the event id of a prediction."""
    if key == "event_id":
        return {name: name for name in names}
    found = parts.events.requested(model, names)
    wrong = [f"{name} has {len(ids)} predictions" for name, ids in found.items() if len(ids) > 1]
    wrong += [f"{name} has none" for name in names if name not in found]
    if wrong:
        raise DataInvalid(
            f"{file}: {len(wrong):,} requests do not stand for one prediction:\n  " + "\n  ".join(wrong[:5]),
            fix="name each prediction by its event_id, as /predict answered it",
        )
    return {name: ids[0] for name, ids in found.items()}


def _news(parts: Parts, model: str, rows: list[_Row], events: Mapping[str, str]) -> list[Event]:
    """Label events for what the rows say beyond what holds. The same news has the same id, whoever brings it and how often."""
    at, held = now(), parts.events.labels(model, events.values())

    def one(row: _Row) -> Iterator[Event]:
        of = events[row.name]
        before = held.get(of)
        if row.ts is None and before is not None and before.label == row.label:
            return
        since: Any = row.ts.isoformat() if row.ts else before and before.event_id
        yield LabelEvent(
            event_id=f"label-{digest_of([model, of, row.label, since])[:40]}",
            ts=row.ts or max(at, before.ts if before else at),
            model=model,
            prediction_event_id=of,
            label=row.label,
        )

    return [event for row in rows for event in one(row)]
