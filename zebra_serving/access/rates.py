"""How often each caller may ask: one number a caller, the moment at which its next evenly spaced request would be due.

This is the generic cell rate algorithm (ITU-T I.371), a token bucket without a timer. Event loop only, so without a lock.
"""

import ipaddress
from collections import OrderedDict

# Callers remembered. Beyond it the one unseen for longest is forgotten, which gives back at most one burst.
MOST = 10_000
BURST_S = 2.0


class Rates:
    """Lets ``rate`` requests a second of each caller pass, and what it did not use for two seconds at once.

    Args:
        rate: per second; 0 for no limit.
    """

    def __init__(self, rate: float) -> None:
        self.limited = rate > 0
        self._gap = 1 / rate if rate else 0.0
        self._slack = max(BURST_S, self._gap) - self._gap
        self._due: OrderedDict[str, float] = OrderedDict()

    def pass_(self, caller: str, moment: float) -> float:
        """0.0 if this request may pass, else the seconds until it might."""
        due = self._due.get(caller, moment)
        if due < moment:
            due = moment
        if due - moment > self._slack:
            return due - moment - self._slack
        if caller not in self._due and len(self._due) >= MOST:
            self._due.popitem(last=False)
        self._due[caller] = due + self._gap
        self._due.move_to_end(caller)
        return 0.0


def network_of(address: str) -> str:
    """The caller that an address belongs to: a machine by IPv4, a household (/64) by IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((int(found), 64), strict=False))
