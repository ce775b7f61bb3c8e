"""`mlops label`: truths are stored once, corrections hold, and a file that cannot be used changes nothing."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.control.conftest import NAME
from zebra_assets.contracts.events import Event, PredictionEvent
from zebra_assets.contracts.noun import now
from zebra_assets.control.labels import Labelled, label
from zebra_assets.errors import DataInvalid, NotFound, ZebraError
from zebra_assets.parts import Parts

Write = Callable[[str], Path]


@pytest.fixture
def predicted(fresh: Parts) -> Parts:
    """Five captured predictions: one each of case-0 to case-3, and a second one of case-3."""
    facts: list[Event] = [
        PredictionEvent(
            event_id=f"event-{i:05d}", ts=now(), model=NAME, version="1", manifest_id=f"{NAME}-0123456789abcdef",
            request_id=f"case-{min(i, 3)}", features={"radius": 1.0}, prediction="benign",
        )
        for i in range(5)
    ]  # fmt: skip
    fresh.events.append(facts)
    return fresh


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def one(text: str) -> Path:
        path = tmp_path / "labels.csv"
        path.write_text(text)
        return path

    return one


def held(parts: Parts, *numbers: int) -> list[object]:
    found = parts.events.labels(NAME, [f"event-{i:05d}" for i in numbers])
    return [found[f"event-{i:05d}"].label if f"event-{i:05d}" in found else None for i in numbers]


def test_a_file_sent_twice_is_stored_once(predicted: Parts, write: Write) -> None:
    file = write("event_id,diagnosis\nevent-00000,malignant\nevent-00001,benign\nevent-00001,benign\n")
    assert label(predicted, NAME, file) == Labelled(rows=2, new=2, waiting=0)
    assert label(predicted, NAME, file) == Labelled(rows=2, new=0, waiting=0)
    assert predicted.events.count(NAME, "label_event") == 2
    assert [e.said()["facts"] for e in predicted.audit.entries(action="labels.added")] == [{"file": "labels.csv", "labels": 2}]


def test_a_correction_holds_and_can_be_taken_back(predicted: Parts, write: Write) -> None:
    for said in ("malignant", "benign", "malignant"):
        assert label(predicted, NAME, write(f"event_id,label\nevent-00000,{said}\n")).new == 1
        assert held(predicted, 0) == [said]
    assert predicted.events.count(NAME, "label_event") == 3


def test_a_label_with_a_time_holds_from_then(predicted: Parts, write: Write) -> None:
    file = write("event_id,label,ts\nevent-00000,benign,2026-01-02T00:00:00+02:00\nevent-00000,malignant,2026-01-01\nevent-00001,benign,\n")
    assert label(predicted, NAME, file).new == 3
    assert label(predicted, NAME, file).new == 0
    assert held(predicted, 0, 1) == ["benign", "benign"]
    assert predicted.events.labels(NAME, ["event-00000"])["event-00000"].ts == datetime(2026, 1, 1, 22, tzinfo=UTC)


def test_a_correction_holds_over_a_label_from_a_clock_that_ran_ahead(predicted: Parts, write: Write) -> None:
    label(predicted, NAME, write("event_id,label,ts\nevent-00000,benign,2099-01-01\n"))
    label(predicted, NAME, write("event_id,label\nevent-00000,malignant\n"))
    assert held(predicted, 0) == ["malignant"]


def test_a_request_of_one_row_may_name_its_prediction(predicted: Parts, write: Write) -> None:
    assert label(predicted, NAME, write("request_id,label\ncase-0,benign\ncase-1,malignant\n")).new == 2
    assert held(predicted, 0, 1) == ["benign", "malignant"]
    with pytest.raises(DataInvalid, match="case-3 has 2 predictions"):
        label(predicted, NAME, write("request_id,label\ncase-2,benign\ncase-3,benign\n"))
    with pytest.raises(DataInvalid, match="case-9 has none"):
        label(predicted, NAME, write("request_id,label\ncase-9,benign\n"))
    assert held(predicted, 2) == [None]


def test_a_label_may_come_before_its_prediction(predicted: Parts, write: Write) -> None:
    file = write("event_id,label\nevent-00000,benign\nevent-99999,benign\n")
    assert label(predicted, NAME, file) == Labelled(rows=2, new=2, waiting=1)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("event_id,label\nevent-00000,maybe\n", DataInvalid, "line 2: 'maybe' is none of malignant, benign"),
        (
            "event_id,label\nevent-00000,benign\nevent-00000,malignant\n",
            DataInvalid,
            "line 3: says 'malignant' of event-00000; line 2 says 'benign'",
        ),
        ("event_id,label\nevent-00000,\n", DataInvalid, "line 2: has no label"),
        ("event_id,label\n,benign\n", DataInvalid, "line 2: has no event_id"),
        ("event_id,label,ts\nevent-00000,benign,yesterday\n", DataInvalid, "line 2: Invalid isoformat"),
        ("event_id,label\n", DataInvalid, "no lines"),
        ("", DataInvalid, "columns none"),
        ("id,label\nevent-00000,benign\n", DataInvalid, "columns id, label"),
        ("event_id,label\nother-00000,benign\n", NotFound, "none of its 1 lines names a prediction"),
        ("event_id,label\nx,benign\n", DataInvalid, "line 2: 'x' is no event id"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing(predicted: Parts, write: Write, text: str, kind: type[ZebraError], says: str) -> None:
    with pytest.raises(kind, match=says) as refused:
        label(predicted, NAME, write(text))
    assert refused.value.fix
    assert predicted.events.count(NAME, "label_event") == 0
    assert not list(predicted.audit.entries(action="labels.added"))


def test_no_file_and_no_text_are_told(predicted: Parts, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        label(predicted, NAME, tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"event_id,label\n\xff\xfe,benign\n")
    with pytest.raises(DataInvalid, match="cannot be read as CSV"):
        label(predicted, NAME, tmp_path / "bytes.csv")
