"""JWTs of one OpenID Connect issuer as callers: signature, algorithm, issuer, audience and expiry are checked by PyJWT.

Asymmetric signatures only: with a shared secret, whoever can check a token could make one. The keys come from a file or from
the issuer's own https address, never from where a token says they are. Imported only where an issuer is set. A token is read on
the event loop, for the cost of a small request; what takes a thread is fetching keys, and forged tokens cause that seldom.
"""

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import jwt
from jwt.algorithms import get_default_algorithms

from zebra_assets.contracts.token import SCOPES
from zebra_assets.errors import UsageError, did_you_mean
from zebra_assets.settings import Settings
from zebra_serving.problems import NotReady, Unauthorized

log = logging.getLogger(__name__)

LEEWAY_S = 30
FETCH_S, KEEP_S = 5, 300
# An issuer that cannot be reached is left alone for so long, and its last keys count for so long.
RETRY_S, STALE_S = 10.0, 3600.0
# Nor is it asked more often for a key that it did not have.
UNKNOWN_S = 30.0
MAX_CHARS = 16 * 1024
SAFE = sorted(name for name in get_default_algorithms() if name[:2] in ("RS", "PS", "ES", "Ed"))


@dataclass(frozen=True)
class Claims:
    """What a valid JWT says."""

    subject: str
    scopes: frozenset[str]
    expires_at: datetime


class Keys(Protocol):
    """Where the issuer's keys are."""

    def at_hand(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of this name; None if they have to be fetched first. Raises `InvalidTokenError` if there is none, and `NotReady`."""

    def fetch(self) -> None:
        """Ask for them, and wait. What goes wrong is in the log and in what `at_hand` says next."""


class Oidc:
    """Reads the JWTs of ``issuer``.

    Attributes:
        fetch: asks the issuer for its keys, in seconds at worst.
    """

    def __init__(self, issuer: str, audience: str, keys: Keys, algorithms: list[str], claim: str) -> None:
        self._issuer, self._audience, self._keys, self.fetch = issuer, audience, keys, keys.fetch
        self._algorithms, self._claim = algorithms, claim

    @classmethod
    def of(cls, settings: Settings) -> "Oidc":
        """As the settings say.

        Raises:
            UsageError: they do not say enough, or ask for something unsafe.
        """
        issuer, audience, keys = settings.serving_oidc_issuer, settings.serving_oidc_audience, settings.serving_oidc_jwks
        if not (issuer and audience and keys):
            raise UsageError(
                "JWTs need an issuer, an audience and the issuer's keys.",
                fix="set ZEBRA_SERVING_OIDC_ISSUER, ZEBRA_SERVING_OIDC_AUDIENCE and ZEBRA_SERVING_OIDC_JWKS",
            )
        algorithms = [name.strip() for name in settings.serving_oidc_algorithms.split(",") if name.strip()]
        for name in algorithms or ["none"]:
            if name not in SAFE:
                fix = f"ZEBRA_SERVING_OIDC_ALGORITHMS={','.join(SAFE)}"
                raise UsageError(f"'{name}' is no signature that only the issuer can make.{did_you_mean(name, SAFE)}", fix=fix)
        return cls(issuer, audience, _keys(keys), algorithms, settings.serving_oidc_scope_claim)

    def read(self, token: str) -> Claims | None:
        """What a token says, if all of it holds; None if nobody can tell before `fetch`.

        Raises:
            Unauthorized: it does not, with the reason.
            NotReady: the issuer's keys cannot be had, so nobody knows.
        """
        try:
            if len(token) > MAX_CHARS:
                raise jwt.InvalidTokenError(f"it has more than {MAX_CHARS:,} characters")
            head = jwt.get_unverified_header(token)
            if head.get("alg") not in self._algorithms:  # before its key is looked for: forgers must not have keys fetched
                raise jwt.InvalidAlgorithmError("The specified alg value is not allowed")
            key = self._keys.at_hand(head.get("kid"))
            if key is None:
                return None
            said = jwt.decode(
                token, key, algorithms=self._algorithms, audience=self._audience, issuer=self._issuer, leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
            expires_at = datetime.fromtimestamp(said["exp"], UTC)
        except (jwt.PyJWTError, ValueError, OverflowError, OSError) as error:
            raise Unauthorized(f"The issuer's token is not accepted: {str(error)[:200]}.") from error
        return Claims(str(said["sub"])[:64], _scopes(said.get(self._claim)), expires_at)


def _scopes(granted: object) -> frozenset[str]:
    """``"openid zebra:predict"`` or ``["zebra:read"]`` -> our scopes; other words are somebody else's."""
    words = granted.split() if isinstance(granted, str) else granted if isinstance(granted, list) else []
    return frozenset(scope for scope in SCOPES if f"zebra:{scope}" in words)


def _keys(where: str) -> Keys:
    url = urlsplit(where)
    if url.scheme in ("http", "https"):
        if url.scheme == "http" and url.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise UsageError("The issuer's keys would come unprotected over http.", fix=f"ZEBRA_SERVING_OIDC_JWKS=https{where[4:]}")
        return _KeyUrl(where)
    return _KeyFile(Path(where.removeprefix("file://")))


def _named(kid: str | None, keys: Iterable[jwt.PyJWK]) -> jwt.PyJWK | None:
    return next((key for key in keys if key.key_id == kid), None)


_NOT_PUBLISHED = "it is signed with a key that the issuer does not publish"
_AWAY = "The issuer's keys cannot be {}, so nobody knows whether this token is good."


class _KeyUrl:
    """The issuer's address, asked every five minutes and, at most twice a minute, for a key it did not have; its last keys outlive it."""

    def __init__(self, url: str) -> None:
        self._url, self._client = url, jwt.PyJWKClient(url, cache_jwk_set=False, timeout=FETCH_S)
        self._last: list[jwt.PyJWK] = []
        self._had_at, self._ask_at = float("-inf"), float("-inf")

    def at_hand(self, kid: str | None) -> jwt.PyJWK | None:
        moment = time.monotonic()
        age, left_alone = moment - self._had_at, moment < self._ask_at
        if age > KEEP_S and not left_alone:
            return None
        if age <= STALE_S:
            if (key := _named(kid, self._last)) is not None:
                return key
            if age <= UNKNOWN_S:
                raise jwt.InvalidTokenError(_NOT_PUBLISHED)
            if not left_alone:
                return None
        raise NotReady(_AWAY.format("fetched"), fix=f"curl {self._url}")

    def fetch(self) -> None:
        try:
            self._last, self._had_at = self._client.get_signing_keys(), time.monotonic()
        except (jwt.PyJWTError, ValueError, OSError) as error:
            log.warning("the issuer's keys cannot be fetched: %s", error)
            self._ask_at = time.monotonic() + RETRY_S


class _KeyFile:
    """A file of keys, read anew when it has changed. While it cannot be read, its last keys count as long as an address's would."""

    def __init__(self, path: Path) -> None:
        self._path, self._stamp, self._trouble = path, (0, 0, 0), ""
        try:
            self.fetch()
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise UsageError(f"{path} is no file of keys (JWKS): {error}.", fix="save what the issuer's jwks_uri answers there") from error

    def at_hand(self, kid: str | None) -> jwt.PyJWK | None:
        try:
            self.fetch()
            self._trouble = ""
        except (OSError, ValueError, jwt.PyJWTError) as error:
            if str(error) != self._trouble:  # once, not with every token
                log.warning("the issuer's keys in %s cannot be read: %s", self._path, error)
                self._trouble = str(error)
            if time.monotonic() > self._had_at + STALE_S:
                raise NotReady(_AWAY.format("read"), fix=f"ls -l {self._path}") from error
        if (key := _named(kid, self._last)) is None:
            raise jwt.InvalidTokenError(_NOT_PUBLISHED)
        return key

    def fetch(self) -> None:
        about = self._path.stat()
        stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
        if stamp != self._stamp:
            self._last = jwt.PyJWKSet.from_dict(json.loads(self._path.read_bytes())).keys
            self._stamp = stamp  # only now: else keys that could not be read once would never be
        self._had_at = time.monotonic()
