import hashlib
import random
import struct
import time
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from zebra_assets.governance.audit import FIRST, Entry, body_of, follow, hash_of, verify

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def chain_of(n: int) -> list[Entry]:
    entries: list[Entry] = []
    for i in range(n):
        body = body_of("ada", "test.step", f"thing/{i}", {"i": i, "text": "naïve"}, AT)
        seq, prev, link = follow((entries[-1].seq, entries[-1].hash) if entries else None, body)
        entries.append(Entry(seq, "ada", "test.step", f"thing/{i}", body, prev, link))
    return entries


def test_the_hash_is_the_published_formula() -> None:
    body = b'{"a":1}'
    expected = hashlib.sha256(b"zops-audit-v1" + struct.pack(">Q", 7) + b"\x11" * 32 + struct.pack(">Q", 7) + body).digest()
    assert hash_of(7, b"\x11" * 32, body) == expected
    assert follow(None, body)[:2] == (1, FIRST)


def test_a_body_has_one_spelling() -> None:
    a, b = ({"b": 1.0, "a": [2]}, {"a": [2], "b": 1})
    assert body_of("x", "y", "z", a, AT) == body_of("x", "y", "z", b, AT)
    assert body_of("x", "y", "z", a, AT) == (
        b'{"action":"y","actor":"x","facts":{"a":[2],"b":1},"subject":"z","ts":"2026-01-02T03:04:05.678000+00:00"}'
    )


def test_an_untouched_chain_holds_and_so_does_an_empty_one() -> None:
    assert verify(chain_of(50)) is None
    assert verify([]) is None


def test_every_flipped_bit_is_found_at_its_entry() -> None:
    entries = chain_of(40)
    rng = random.Random(20)
    for _ in range(600):
        at = rng.randrange(len(entries))
        field = rng.choice(["body", "prev", "hash"])
        data = bytearray(getattr(entries[at], field))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        assert verify([*entries[:at], replace(entries[at], **{field: bytes(data)}), *entries[at + 1 :]]) == at + 1


@given(st.data())
def test_entries_removed_moved_or_repeated_are_found(data: st.DataObject) -> None:
    entries = chain_of(12)
    i = data.draw(st.integers(0, 10))  # the last one is left: cutting off the end leaves a valid chain
    j = data.draw(st.integers(0, 11).filter(lambda k: k != i))
    swapped = list(entries)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    assert verify(entries[:i] + entries[i + 1 :]) == i + 1
    assert verify(swapped) == min(i, j) + 1
    assert verify([*entries[: i + 1], entries[i], *entries[i + 1 :]]) == i + 2


def test_a_rewritten_entry_with_a_right_hash_of_its_own_breaks_the_next_one() -> None:
    entries = chain_of(5)
    body = body_of("eve", "test.step", "thing/1", {}, AT)
    forged = Entry(2, "eve", "test.step", "thing/1", body, entries[0].hash, hash_of(2, entries[0].hash, body))
    assert verify([entries[0], forged, *entries[2:]]) == 3


def test_verifying_is_fast_enough_for_a_million_entries() -> None:
    entries = chain_of(5000)
    began = time.process_time()
    assert verify(entries) is None
    assert time.process_time() - began < 0.5  # 1,000 took 0.011 s beside seven busy processes: a million in 11 s
