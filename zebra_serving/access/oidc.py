"""JWTs of one OpenID Connect issuer as callers: signature, algorithm, issuer, audience and expiry are checked by PyJWT.

Asymmetric signatures only: with a shared secret, whoever can check a token could make one. The keys come from a file or from
the issuer's own https address, never from where a token says they are. Imported only where an issuer is set.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
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
SAFE = sorted(name for name in get_default_algorithms() if name[:2] in ("RS", "PS", "ES", "Ed"))


@dataclass(frozen=True)
class Claims:
    """What a valid JWT says."""

    subject: str
    scopes: frozenset[str]
    expires_at: datetime


class Oidc:
    """Reads the JWTs of ``issuer``.

    Args:
        key_of: the key that a token is signed with, by its `kid`.
    """

    def __init__(self, issuer: str, audience: str, key_of: Callable[[str], Any], algorithms: list[str], claim: str) -> None:
        self._issuer, self._audience, self._key_of = issuer, audience, key_of
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

    def read(self, token: str) -> Claims:
        """What a token says, if all of it holds. May ask the issuer for its keys.

        Raises:
            Unauthorized: it does not, with the reason.
            NotReady: the issuer's keys cannot be had, so nobody knows.
        """
        try:
            said = jwt.decode(
                token, self._key_of(token), algorithms=self._algorithms, audience=self._audience, issuer=self._issuer, leeway=LEEWAY_S,
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


def _keys(where: str) -> Callable[[str], Any]:
    url = urlsplit(where)
    if url.scheme in ("http", "https"):
        if url.scheme == "http" and url.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise UsageError("The issuer's keys would come unprotected over http.", fix=f"ZEBRA_SERVING_OIDC_JWKS=https{where[4:]}")
        return _KeyUrl(where, lifespan=KEEP_S, timeout=FETCH_S).get_signing_key_from_jwt
    return _KeyFile(Path(where.removeprefix("file://")))


class _KeyUrl(jwt.PyJWKClient):
    """The issuer's address, asked every five minutes and, at most twice a minute, for a key it did not have; its last keys outlive it."""

    _last: jwt.PyJWKSet | None = None
    _had_at = _ask_at = 0.0

    def get_jwk_set(self, refresh: bool = False) -> jwt.PyJWKSet:
        """Raises `NotReady` where the issuer is away and its last keys are too old, or cannot tell (``refresh``)."""
        if time.monotonic() >= self._ask_at:
            try:
                self._last, self._had_at = super().get_jwk_set(refresh), time.monotonic()
                return self._last
            except jwt.PyJWKClientConnectionError as error:
                log.warning("the issuer's keys cannot be fetched: %s", error)
                self._ask_at = time.monotonic() + RETRY_S
        if refresh or self._last is None or time.monotonic() > self._had_at + STALE_S:
            raise NotReady("The issuer's keys cannot be fetched, so nobody knows whether this token is good.", fix=f"curl {self.uri}")
        return self._last


class _KeyFile:
    """A file of keys, read anew when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path, self._stamp = path, 0
        try:
            self._read()
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise UsageError(f"{path} is no file of keys (JWKS): {error}.", fix="save what the issuer's jwks_uri answers there") from error

    def __call__(self, token: str) -> Any:
        if self._path.stat().st_mtime_ns != self._stamp:
            self._read()
        named = jwt.get_unverified_header(token).get("kid")
        for key in self._set.keys:
            if key.key_id == named:
                return key
        raise jwt.InvalidTokenError("it is signed with a key that the issuer does not publish")

    def _read(self) -> None:
        self._stamp = self._path.stat().st_mtime_ns
        self._set = jwt.PyJWKSet.from_dict(json.loads(self._path.read_bytes()))
