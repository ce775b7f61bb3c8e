"""Who may ask: the Host header, the bearer token, and whether the server may bind where it is told to.

Loopback without a token is the laptop's case; there the Host header is checked, or any web page could reach the server
through the browser of the person in front of it. Anywhere else a token is required.
"""

import hmac
import ipaddress

from pydantic import SecretStr

from zebra_assets.errors import Refused
from zebra_serving.problems import Problem, Unauthorized, UntrustedHost

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_PATHS = frozenset({"/health"})
MAX_SEEN = 64


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address) reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_bind(host: str, token: SecretStr | None) -> None:
    """Refuse to listen to strangers without a token.

    Raises:
        Refused: ``host`` is not loopback and no token is set.
    """
    if not is_loopback(host) and not (token and token.get_secret_value()):
        raise Refused(
            f"The server will not listen on {host} without a token: anybody in reach could ask it.",
            fix="export ZEBRA_SERVING_TOKEN=$(openssl rand -hex 32), or --host 127.0.0.1",
        )


class Guard:
    """Checks each request's head.

    Args:
        host: where the server is bound. On loopback only loopback names are accepted as Host.
    """

    def __init__(self, host: str, token: SecretStr | None) -> None:
        self._hosts = _LOOPBACK_NAMES | {host.strip("[]").lower()} if is_loopback(host) else None
        self._seen: set[bytes] = set()  # Host headers that were found good: one or two, and no need to read them again
        secret = token.get_secret_value() if token else ""
        self._expected = f"Bearer {secret}".encode() if secret else None

    def check(self, path: str, headers: dict[bytes, bytes]) -> Problem | None:
        """The reason to refuse, or None. ``headers`` have lower-case names."""
        if self._hosts is not None and headers.get(b"host") not in self._seen:
            host = headers.get(b"host", b"")
            if _host_name(host) not in self._hosts:
                return UntrustedHost("The Host header does not name this machine.", fix="ask 127.0.0.1 or localhost")
            if len(self._seen) < MAX_SEEN:
                self._seen.add(host)
        if self._expected is None or path in OPEN_PATHS:
            return None
        # Compared in constant time: how long a wrong token takes tells nothing about the right one.
        if hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            return None
        return Unauthorized("A bearer token is required.", fix='curl -H "Authorization: Bearer $ZEBRA_SERVING_TOKEN" …')


def _host_name(header: bytes) -> str:
    """The Host header without its port, lower case: ``[::1]:8080`` -> ``::1``."""
    host = header.decode("latin-1").strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
