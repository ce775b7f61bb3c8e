"""From an Authorization header to who asks. A header is compared by scrypt once, and remembered by its sha256 from then on.

Three kinds of bearer tokens: `ZEBRA_SERVING_TOKEN`, those of `mlops token`, and JWTs of one issuer. The file of tokens is
looked at once a second; when it has changed, each header is judged anew by what it says now, which is how a revocation gets
here. Only scrypt is budgeted: 40 ms a guess, where a JWT's signature costs no more than the request around it.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zebra_assets.adapters.token_file import TokenFile
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.token import SCOPES, Token
from zebra_assets.errors import ZebraError
from zebra_assets.governance.tokens import belongs, id_of
from zebra_serving.access.rates import Rates
from zebra_serving.access.shared import Shared
from zebra_serving.budget import Budget
from zebra_serving.problems import RateLimited, Unauthorized

if TYPE_CHECKING:
    from zebra_serving.access.oidc import Oidc  # with PyJWT 50 ms and 10 MB that only servers with an issuer need

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_S = 1.0
GOOD_S = 300.0
MOST_SEEN = 4096
FIX = 'curl -H "Authorization: Bearer $ZEBRA_SERVING_TOKEN" …, or: mlops token create NAME'
UNKNOWN = "This token is not known here."
# Secrets compared a second by scrypt: guesses must not take the processor from those who are known. A guess has to name the id of
# a token, or it is refused for nothing; each id has a share, so that who knows one id (a revoked token's) locks nobody else out.
GUESSES_PER_S, GUESSES = 10.0, 40
SHARE_PER_S = 2.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. ``until`` is when to ask again, on the guard's clock; ``refusal`` says why a header is worth nothing."""

    name: str
    scopes: frozenset[str]
    until: float = float("inf")
    refusal: str = ""


ANYBODY = Identity("", frozenset(SCOPES))


class Identities:
    """Knows the callers.

    Args:
        static: the token with every scope.
        clock: monotonic seconds, the same as the moments handed in.
    """

    def __init__(
        self, static: str, book: TokenFile, oidc: "Oidc | None", *, must: bool, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._static = sha256(f"Bearer {static}".encode()).digest() if static else None
        self._book, self._oidc, self._clock = book, oidc, clock
        self._tokens: dict[str, Token] = {}
        self._stamp: object = ...  # until the first look that succeeds
        self._trouble = ""
        self._look_at = 0.0
        self._good: dict[bytes, Identity] = {}
        # By a header's sha256, the digest that its secret was found to make, or not to. True whatever becomes of the token.
        self._right: dict[bytes, str] = {}
        self._wrong: dict[bytes, str] = {}
        self._looks = Shared()
        self._budget, self._shares = Budget(GUESSES_PER_S, GUESSES, clock), Rates(SHARE_PER_S)
        # Once true it stays so: a file of tokens that vanishes must not open the server.
        self.required = must or bool(static) or oidc is not None
        self._look(clock())

    def known(self, header: bytes, moment: float) -> Identity | None:
        """Who sent this header if that was found out before; None if it has to be asked."""
        if moment >= self._look_at:
            self._look(moment)
        if not self.required:
            return ANYBODY
        found = self._good.get(sha256(header).digest())
        return found if found is not None and moment < found.until else None

    async def ask(self, header: bytes) -> Identity:
        """Who sent this header.

        Raises:
            Unauthorized: nobody, with the reason.
            RateLimited: too many unknown tokens are being tried.
            NotReady: the issuer of JWTs cannot be asked.
        """
        key = sha256(header).digest()
        who = await self._find(header, key)
        if who.refusal:
            raise Unauthorized(who.refusal, fix=FIX)
        _remember(self._good, key, who)
        return who

    async def _find(self, header: bytes, key: bytes) -> Identity:
        if self._static is not None and hmac.compare_digest(key, self._static):
            return Identity("ZEBRA_SERVING_TOKEN", frozenset(SCOPES), self._clock() + GOOD_S)
        kind, _, secret = header.partition(b" ")
        if kind.lower() != b"bearer" or not secret.isascii() or not secret:
            return _nobody("A bearer token is required.")
        text = secret.decode().strip()
        if (identity := id_of(text)) is not None:
            return await self._of_book(key, text, identity)
        if self._oidc is not None and text.count(".") == 2:
            return await self._of_issuer(text, self._oidc)
        return _nobody(UNKNOWN)

    async def _of_book(self, key: bytes, secret: str, identity: str) -> Identity:
        token = self._tokens.get(identity)
        if token is not None and token.digest not in (self._right.get(key), self._wrong.get(key)):
            await self._compare(key, secret, token)
            token = self._tokens.get(identity)  # as it is by now: it may have been revoked meanwhile
        if token is None or self._right.get(key) != token.digest:
            return _nobody(UNKNOWN)
        at = now()
        if (state := token.state(at)) != "valid":
            since = token.expires_at if state == "expired" else token.revoked_at
            return _nobody(f"Token '{token.name}' is {state} since {since:%Y-%m-%d %H:%M} UTC.")
        return Identity(token.name, frozenset(token.scopes), self._deadline(token.expires_at, at))

    async def _compare(self, key: bytes, secret: str, token: Token) -> None:
        """Find out whether a header's secret is this token's: one guess, however many requests with this header wait for it."""
        about = (key, token.digest)
        if about not in self._looks and ((wait := self._shares.pass_(token.id, self._clock())) or not self._budget.take(1)):
            raise RateLimited("Too many tokens are being tried that nobody has seen before.", after_s=wait or 1)

        async def compare() -> None:
            found = await asyncio.to_thread(belongs, secret, token)
            _remember(self._right if found else self._wrong, key, token.digest)

        await self._looks.wait(about, compare)

    async def _of_issuer(self, text: str, oidc: "Oidc") -> Identity:
        try:
            while (said := oidc.read(text)) is None:
                await self._looks.wait(oidc, lambda: asyncio.to_thread(oidc.fetch))
        except Unauthorized as error:
            return _nobody(error.message)
        return Identity(said.subject, said.scopes, self._deadline(said.expires_at, now()))

    def _deadline(self, expires_at: datetime | None, at: datetime) -> float:
        return self._clock() + min(GOOD_S, (expires_at - at).total_seconds() if expires_at else GOOD_S)

    def _look(self, moment: float) -> None:
        """Read the file of tokens if it has changed; one that cannot be read changes nothing, and is tried again at the next look."""
        self._look_at = moment + LOOK_S
        try:
            stamp = _stamp(self._book.path)
            self.required = self.required or stamp is not None
            tokens = self._tokens if stamp == self._stamp else {token.id: token for token in self._book.tokens()}
        except (OSError, ZebraError) as error:
            self.required = self.required or self._stamp is ...  # nobody knows whether there are tokens
            if (trouble := str(error)) != self._trouble:  # once, not every second
                log.error("the tokens stay as they were: %s", trouble)
                self._trouble = trouble
            return
        if self._trouble:
            log.warning("the tokens can be read again")
            self._trouble = ""
        if stamp != self._stamp:
            # Only now: a stamp kept of what was not read would have the server never learn of a revocation.
            self._stamp, self._tokens = stamp, tokens
            self._good.clear()


def _stamp(path: Path) -> object:
    """What tells one state of a file from the next; None where there is no file."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


def _remember(seen: dict[bytes, T], key: bytes, what: T) -> None:
    if len(seen) >= MOST_SEEN:
        del seen[next(iter(seen))]
    seen[key] = what


def _nobody(why: str) -> Identity:
    return Identity("", frozenset(), float("inf"), why)
