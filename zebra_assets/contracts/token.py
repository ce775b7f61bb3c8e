"""Token: what is kept of a bearer token. The secret itself is shown once, to whoever made it, and kept nowhere.

Minted and compared by `governance/tokens`, kept by `adapters/token_file`, asked for by the server.
"""

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints

from zebra_assets.contracts.names import Name
from zebra_assets.contracts.noun import Noun

Scope = Literal["predict", "read", "operate", "train"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$", max_length=128)]


class Token(Noun):
    """One token. ``digest`` is scrypt over the secret and ``salt``; ``id`` stands in the secret and tells whose digest to compare."""

    id: Hex
    name: Name
    scopes: list[Scope] = Field(min_length=1)
    salt: Hex
    digest: Hex
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def state(self, at: datetime) -> Literal["valid", "expired", "revoked"]:
        """Whether it is good at a moment."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and at >= self.expires_at else "valid"


class TokenBook(Noun):
    """The file of tokens, revoked ones included, so that it still says who could ask what."""

    schema_version: Literal[1] = 1
    tokens: list[Token] = Field(default_factory=list)
