"""Splits: stable, proportionate, and the same on every platform."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.conftest import people
from zebra_assets.contracts.dataset_spec import SplitSpec
from zebra_assets.datasets.split import assign, row_hashes, splitmix64

MASK = 2**64 - 1


def slow_mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def test_splitmix64_is_the_published_generator() -> None:
    """The first outputs for seed 1234567, as listed by Rosetta Code and the reference C code."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    seeds = np.uint64(1234567) + np.arange(5, dtype=np.uint64) * golden
    assert splitmix64(seeds).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


# These vectors may never change, or rows of committed datasets would wander between splits.
VECTORS = {
    ("p00001",): 10572262424983061104,
    ("",): 15420476857816974467,
    (None,): 10531218223823369678,
    ("a longer text than one word, 名前",): 17199387646900760825,
    (42,): 16352771356111662916,
    (-1,): 14981241392353274507,
    (0.1,): 10345859356131591383,
    (float("nan"),): 10525026668642897996,
    (True,): 5602467371285722467,
    ("a", 7): 4287267702550792002,
}


@pytest.mark.parametrize("key", VECTORS, ids=repr)
def test_row_hashes_keep_their_vectors(key: tuple[object, ...]) -> None:
    types = [pa.string() if v is None else None for v in key]
    table = pa.table({str(i): pa.array([v], t) for i, (v, t) in enumerate(zip(key, types, strict=True))})
    assert int(row_hashes(table)[0]) == VECTORS[key]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=30)
    | st.integers(1, 40).flatmap(lambda width: st.lists(st.text("0a", min_size=width, max_size=width), min_size=2, max_size=30)),
    cut=st.integers(0, 30),
)
def test_text_hashes_follow_their_description_wherever_chunks_end(texts: list[str | None], cut: int) -> None:
    start = 0xE3B0C44298FC1C14  # sha256 of the empty salt
    expected = []
    for text in texts:
        raw = (text or "").encode()
        h = slow_mix(start ^ (0xA5A5A5A5A5A5A5A5 if text is None else len(raw)))
        for at in range(0, len(raw), 8):
            h = slow_mix(h ^ int.from_bytes(raw[at : at + 8], "little"))
        expected.append(h)
    whole = pa.array(["pad", *texts], pa.string()).slice(1)
    column = pa.chunked_array([whole.slice(0, min(cut, len(texts))), whole.slice(min(cut, len(texts)))])
    assert row_hashes(pa.table({"x": column})).tolist() == expected


def test_a_row_stays_in_its_split_when_others_come_and_go() -> None:
    spec = SplitSpec()
    all_rows, some = people(2000), people(2000).slice(700, 400)
    before = assign(all_rows, ["id"], spec)
    after = assign(some, ["id"], spec)
    for name in before:
        assert after[name].equals(before[name].slice(700, 400))


def test_every_row_is_in_exactly_one_split_and_shares_are_kept() -> None:
    table = pa.table({"id": [f"C{i}" for i in range(100_000)]})
    masks = assign(table, ["id"], SplitSpec())
    counts = {name: mask.true_count for name, mask in masks.items()}
    assert sum(counts.values()) == table.num_rows
    # 4 standard deviations of a binomial with n = 100,000
    assert counts == {
        "train": pytest.approx(70_000, abs=580),
        "valid": pytest.approx(15_000, abs=452),
        "test": pytest.approx(15_000, abs=452),
    }


def test_consecutive_numbers_are_spread_as_well_as_text() -> None:
    masks = assign(pa.table({"id": list(range(100_000))}), ["id"], SplitSpec())
    assert masks["train"].true_count == pytest.approx(70_000, abs=580)


def test_the_salt_deals_anew_and_the_written_order_of_fractions_does_not() -> None:
    table = people(500)
    plain = assign(table, ["id"], SplitSpec())
    assert not assign(table, ["id"], SplitSpec(salt="again"))["train"].equals(plain["train"])
    turned = SplitSpec(fractions={"test": 0.15, "valid": 0.15, "train": 0.7})
    assert assign(table, ["id"], turned)["train"].equals(plain["train"])


def test_without_a_key_the_whole_row_decides() -> None:
    table = pa.concat_tables([people(300), people(300)])
    masks = assign(table, [], SplitSpec())
    assert masks["train"].slice(0, 300).equals(masks["train"].slice(300))
    assert 0 < masks["train"].true_count < 600
