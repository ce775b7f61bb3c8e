"""The audit chain: what an entry's bytes are, how entries are linked, and where a chain first breaks.

Pure: bytes in, bytes out. `adapters/audit_log` stores entries, one writer at a time. Each hash covers the number, the hash
before it and the stored bytes themselves, so that nothing depends on how a value would be serialised today:

    hash = SHA256("zops-audit-v1" || u64 seq || prev || u64 length || body)      integers big-endian, prev of the first: 32 zeros

A chain shows what was changed, removed from the middle or inserted. Cutting off the newest entries leaves a valid, shorter
chain: only a copy of its head kept elsewhere shows that.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from zebra_assets.contracts.digest import canonical_json

PREFIX = b"zops-audit-v1"
FIRST = bytes(32)


@dataclass(frozen=True)
class Entry:
    """One stored entry. ``actor``, ``action`` and ``subject`` are copies out of ``body`` to search by; ``body`` is what counts."""

    seq: int
    actor: str
    action: str
    subject: str
    body: bytes
    prev: bytes
    hash: bytes

    def said(self) -> dict[str, Any]:
        """The body read back: ``ts``, ``actor``, ``action``, ``subject`` and the ``facts`` of the one who wrote it."""
        return json.loads(self.body)


def body_of(actor: str, action: str, subject: str, facts: Mapping[str, Any], at: datetime) -> bytes:
    """The canonical bytes of what an entry says.

    Raises:
        rfc8785.CanonicalizationError: a fact has no canonical form (NaN, infinity, an integer beyond 2**53).
    """
    return canonical_json({"ts": at.isoformat(), "actor": actor, "action": action, "subject": subject, "facts": dict(facts)})


def hash_of(seq: int, prev: bytes, body: bytes) -> bytes:
    """The link: 32 bytes over the entry's number, the link before and the stored bytes."""
    return hashlib.sha256(PREFIX + seq.to_bytes(8, "big") + prev + len(body).to_bytes(8, "big") + body).digest()


def follow(last: tuple[int, bytes] | None, body: bytes) -> tuple[int, bytes, bytes]:
    """``(seq, prev, hash)`` of the entry after ``last`` (its seq and hash), or of the first one."""
    seq, prev = (last[0] + 1, last[1]) if last else (1, FIRST)
    return seq, prev, hash_of(seq, prev, body)


def verify(entries: Iterable[Entry]) -> int | None:
    """The first seq at which the chain does not hold, or None when it holds from 1 to its end.

    A gap is reported as the number that is missing. Takes entries in order, holds one at a time.
    """
    prev = FIRST
    for seq, entry in enumerate(entries, start=1):
        if entry.seq != seq or entry.prev != prev or entry.hash != hash_of(seq, prev, entry.body) or not _copies_agree(entry):
            return seq
        prev = entry.hash
    return None


def _copies_agree(entry: Entry) -> bool:
    said = entry.said()
    return (said["actor"], said["action"], said["subject"]) == (entry.actor, entry.action, entry.subject)
