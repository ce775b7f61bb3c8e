"""Who may ask: the request's head is judged here, before a door or a route sees it.

Host, number of headers, content encoding, identity (`access/identities`), scope (`access/scopes`), rate (`access/rates`).
Loopback without a token is the laptop's case; there the Host header is checked, or any web page could reach the server
through the browser of the person in front of it. Anywhere else a token is required.
"""

import ipaddress
import logging
import os
from collections.abc import Mapping
from typing import Any

from zebra_assets.adapters.token_file import TokenFile
from zebra_assets.errors import Refused
from zebra_assets.settings import Settings
from zebra_serving.access.connections import CROWDED
from zebra_serving.access.identities import ANYBODY, Identities, Identity
from zebra_serving.access.rates import Rates, network_of
from zebra_serving.access.scopes import OPEN, Scopes
from zebra_serving.problems import Crowded, Encoded, Forbidden, HeadTooLarge, RateLimited, UntrustedHost

log = logging.getLogger(__name__)

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_SEEN = 64
MAX_HEADERS = 100


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address) reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_bind(host: str, settings: Settings) -> None:
    """Refuse to listen to strangers without knowing one's own.

    Raises:
        Refused: ``host`` is not loopback, and there is no token of any kind, or this is root and must not be.
    """
    if is_loopback(host):
        return
    token = settings.serving_token
    if not (token and token.get_secret_value()) and not settings.serving_oidc_issuer and not settings.tokens_file.exists():
        raise Refused(
            f"The server will not listen on {host} without a token: anybody in reach could ask it.",
            fix="mlops token create NAME, or export ZEBRA_SERVING_TOKEN=$(openssl rand -hex 32), or --host 127.0.0.1",
        )
    if os.geteuid() == 0:
        if settings.serving_root == "refuse":
            raise Refused(f"The server will not listen on {host} as root.", fix="start it as another user, or ZEBRA_SERVING_ROOT=warn")
        log.warning("listening on %s as root: start it as another user", host)


class Guard:
    """Checks each request's head. Event loop only.

    Args:
        host: where the server is bound. On loopback only loopback names, and the setting's, are accepted as Host.
        routes: which scopes each asks for; default the server's own.

    Raises:
        UsageError: the settings about JWTs do not fit.
    """

    def __init__(self, host: str, settings: Settings, routes: dict[str, frozenset[str]] | None = None) -> None:
        more = [name.strip().lower() for name in settings.serving_allowed_hosts.split(",") if name.strip()]
        loopback = is_loopback(host)
        near = _LOOPBACK_NAMES | {host.strip("[]").lower()} if loopback else frozenset[str]()
        self._hosts = frozenset(n for n in more if not n.startswith("*.")) | near if loopback or more else None
        self._domains = tuple(name[1:] for name in more if name.startswith("*."))
        self._seen: set[bytes] = set()  # Host headers that were found good: one or two, and no need to read them again
        secret = settings.serving_token.get_secret_value() if settings.serving_token else ""
        oidc = None
        if settings.serving_oidc_issuer:
            from zebra_serving.access.oidc import Oidc

            oidc = Oidc.of(settings)
        self._identities = Identities(secret, TokenFile(settings.tokens_file), oidc, must=not loopback)
        self._scopes, self._rates = Scopes(routes), Rates(settings.serving_rate_per_s)

    @property
    def callers_are_known(self) -> bool:
        """Whether a token is asked for."""
        return self._identities.required

    def known(self, scope: Mapping[str, Any], headers: dict[bytes, bytes], moment: float) -> Identity | None:
        """Who asks, if that is known without looking closer; None: `ask`. ``headers`` have lower-case names.

        Args:
            moment: `time.perf_counter()` of the request.

        Raises:
            Crowded, UntrustedHost, HeadTooLarge, Encoded.
        """
        if CROWDED in scope and scope["path"] != "/health":  # a probe that failed now would have a busy server restarted
            raise Crowded("All connections are taken.", fix="ask again in a second, keep connections open, or start more workers")
        if self._hosts is not None and headers.get(b"host") not in self._seen:
            self._check_host(headers.get(b"host", b""))
        if len(scope["headers"]) > MAX_HEADERS:
            raise HeadTooLarge(f"More than {MAX_HEADERS} headers.", fix="send fewer")
        if b"content-encoding" in headers:
            raise Encoded("A compressed body is not read.", fix="send it as it is, without Content-Encoding")
        who = self._identities.known(headers.get(b"authorization", b""), moment)
        if who is None and self._scopes.needed(scope["method"], scope["path"]) is OPEN:
            return ANYBODY
        return who

    async def ask(self, headers: dict[bytes, bytes]) -> Identity:
        """Who asks, found out. Raises `Unauthorized`, `RateLimited` and `NotReady`."""
        return await self._identities.ask(headers.get(b"authorization", b""))

    def admit(self, who: Identity, scope: Mapping[str, Any], moment: float) -> None:
        """Let a caller ask this.

        Raises:
            Forbidden: none of its scopes suffices.
            RateLimited: it asks too often.
        """
        if who is not ANYBODY:
            needed = self._scopes.needed(scope["method"], scope["path"])
            if needed and not needed & who.scopes:
                has, wants = " and ".join(sorted(who.scopes)) or "nothing", " or ".join(sorted(needed))
                fix = f"mlops token create NAME --scope {min(needed)}"
                raise Forbidden(f"Token '{who.name}' may {has}; this asks for {wants}.", fix=fix)
        if self._rates.limited:
            client = scope.get("client")
            caller = who.name or network_of(client[0] if client else "")
            if wait := self._rates.pass_(caller, moment):
                raise RateLimited("More requests than this caller may send.", after_s=wait)

    def _check_host(self, header: bytes) -> None:
        host = _host_name(header)
        if host not in (self._hosts or ()) and not (self._domains and host.endswith(self._domains)):
            raise UntrustedHost("The Host header does not name this machine.", fix="ask 127.0.0.1, or set ZEBRA_SERVING_ALLOWED_HOSTS")
        if len(self._seen) < MAX_SEEN:
            self._seen.add(header)


def _host_name(header: bytes) -> str:
    """The Host header without its port, lower case: ``[::1]:8080`` -> ``::1``."""
    host = header.decode("latin-1").strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
