"""Bearer tokens: making one, and telling whether a secret belongs to what was kept of it.

A secret is ``zebra_<id>_<256 random bits>``. Kept is its scrypt digest: whoever reads the file cannot ask the server. Pure but
for the system's randomness; the file is `adapters/token_file`.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from zebra_assets.contracts.token import Scope, Token

PREFIX = "zebra_"
# 16 MB and some 40 ms a guess. The secret is random, so more would buy nothing, and the server pays it for each wrong one.
_COST = {"n": 2**14, "r": 8, "p": 1}


@dataclass(frozen=True)
class Minted:
    """A new token and its secret, which nobody sees again."""

    token: Token
    secret: str


def mint(name: str, scopes: Iterable[Scope], *, at: datetime, by: str, expires_at: datetime | None = None) -> Minted:
    """Make a token."""
    identity, salt = secrets.token_hex(6), secrets.token_hex(16)
    secret = f"{PREFIX}{identity}_{secrets.token_urlsafe(32)}"
    return Minted(
        Token(
            id=identity, name=name, scopes=sorted(set(scopes)), salt=salt, digest=_digest(secret, salt), created_at=at, created_by=by,
            expires_at=expires_at,
        ),
        secret,
    )  # fmt: skip


def id_of(secret: str) -> str | None:
    """The id that a secret names; None for what is no secret of ours."""
    identity, found, rest = secret.removeprefix(PREFIX).partition("_")
    return identity if secret.startswith(PREFIX) and found and rest else None


def belongs(secret: str, token: Token) -> bool:
    """Whether ``secret`` is this token's. Takes some 40 ms without holding the interpreter."""
    return hmac.compare_digest(_digest(secret, token.salt), token.digest)


def _digest(secret: str, salt: str) -> str:
    return hashlib.scrypt(secret.encode(), salt=bytes.fromhex(salt), dklen=32, **_COST).hex()
