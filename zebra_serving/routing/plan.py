"""The lots: which arm answers a request, and whether a shadow is asked, too. Replaced as a whole when anything changes.

A lot is BLAKE2b of the unit (a key, a header or the request's id), keyed by the route's salt, as a number from 0 to 1: the same in
every process and after every restart, and drawn within 2 us. A candidate has the lots below its weight, so whoever it once had stays with
it while a canary's weight grows.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from zebra_assets.contracts.events import Drawn
from zebra_assets.contracts.route import CHAMPION, Route
from zebra_serving.routing.seen import Seen
from zebra_serving.served import Served

_WHOLE = float(2**64)


@dataclass(frozen=True, slots=True)
class Arm:
    """One version of a route. ``served`` is None for the champion: whatever is in force when the request comes."""

    name: str
    version: str
    served: Served | None
    seen: Seen


class Lot(NamedTuple):
    """Two independent numbers from 0 to 1 for a unit, for its arm and for its shadow, and the unit's own hash."""

    arm: float
    shadow: float
    unit: str


class Plan:
    """A route with the versions behind its arms.

    Args:
        champion: the arm of what is in force; its version is the one that was when the plan was made.
        arms: candidates with the share of requests each answers.
        shadows: candidates with the share of requests each is asked about besides.
    """

    def __init__(self, route: Route, champion: Arm, arms: list[tuple[float, Arm]], shadows: list[tuple[float, Arm]]) -> None:
        self.route, self.champion, self.shadows = route, champion, shadows
        self._hash = hashlib.blake2b(digest_size=16, key=bytes.fromhex(route.salt))
        self._arms: list[tuple[float, Arm]] = []
        upper = 0.0
        for weight, arm in arms:
            upper += weight
            self._arms.append((upper, arm))
        self.shares = {champion.version: max(0.0, 1 - upper)} | {arm.version: weight for weight, arm in arms}
        self._by_name = {arm.name.encode(): arm for arm in (champion, *(arm for _, arm in arms))}
        self.column = route.sticky.column if route.sticky else None
        self._header = route.sticky.header.encode() if route.sticky and route.sticky.header else None
        self._force = route.force_header.encode() if route.force_header else None

    def forced(self, headers: Mapping[bytes, bytes]) -> Arm | None:
        """The arm that the request names, where it may name one and the arm is there."""
        return None if self._force is None else self._by_name.get(headers.get(self._force, b""))

    def unit(self, headers: Mapping[bytes, bytes], request_id: str) -> bytes:
        """What the lot is drawn for, unless a column says it."""
        found = headers.get(self._header) if self._header is not None else None
        return found if found else request_id.encode()

    def lot(self, unit: bytes) -> Lot:
        """The same for the same unit and salt, whoever asks."""
        keyed = self._hash.copy()
        keyed.update(unit)
        raw = keyed.digest()
        return Lot(int.from_bytes(raw[:8], "big") / _WHOLE, int.from_bytes(raw[8:], "big") / _WHOLE, raw[:8].hex())

    def arm(self, lot: float) -> Arm:
        """Whose lot it is."""
        for upper, arm in self._arms:
            if lot < upper:
                return arm
        return self.champion

    def arms(self) -> list[Arm]:
        """The champion and the candidates."""
        return list(self._by_name.values())

    def drawn(self, arm: Arm, lot: Lot) -> Drawn:
        """What the event keeps of the lot."""
        return Drawn.model_construct(route=self.route.seq, arm=arm.name, shares=self.shares, unit=lot.unit)


def champion(version: str, seen: Seen) -> Arm:
    """The arm of what is in force."""
    return Arm(CHAMPION, version, None, seen)
