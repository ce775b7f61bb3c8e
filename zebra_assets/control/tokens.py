"""The `token` verbs: each change of who may ask is in the audit log before it is in force, a revocation right after."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from zebra_assets.adapters.token_file import TokenFile
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.token import Scope, Token
from zebra_assets.governance.tokens import Minted, mint
from zebra_assets.parts import Parts
from zebra_assets.settings import Settings


def book(settings: Settings) -> TokenFile:
    """Where this project's tokens are kept."""
    return TokenFile(settings.tokens_file)


def create(parts: Parts, name: str, scopes: Iterable[Scope], lasts: timedelta | None) -> Minted:
    """Make a token; ``lasts`` None is for ever.

    Raises:
        Conflict: a valid token has this name.
        Unavailable: nobody could write it down.
    """
    at = now()
    made = mint(name, scopes, at=at, by=parts.settings.who, expires_at=at + lasts if lasts else None)
    facts = {"id": made.token.id, "scopes": made.token.scopes, "expires_at": made.token.expires_at and made.token.expires_at.isoformat()}
    book(parts.settings).add(made.token, lambda: parts.audit.append(parts.settings.who, "token.create", f"token/{name}", facts))
    return made


def revoke(parts: Parts, name: str) -> Token:
    """Make a token worthless. Safety first: it is revoked even where the audit log then cannot be written.

    Raises:
        NotFound: no valid token has this name.
        Unavailable: it is revoked, and the audit log does not know.
    """
    revoked = book(parts.settings).revoke(name, now())
    parts.audit.append(parts.settings.who, "token.revoke", f"token/{name}", {"id": revoked.id})
    return revoked


def shown(token: Token) -> dict[str, Any]:
    """A token for people: nothing that helps to guess it."""
    about = token.model_dump(mode="json", exclude={"salt", "digest"})
    return {**about, "state": token.state(now())}
