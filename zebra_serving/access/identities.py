"""From an Authorization header to who asks. A header seen good is remembered by its sha256, so that scrypt is paid once.

Three kinds of bearer tokens: `ZEBRA_SERVING_TOKEN`, those of `mlops token`, and JWTs of one issuer. The file of tokens is
looked at once a second; when it has changed, everything remembered is forgotten, which is how a revocation gets here.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from zebra_assets.adapters.token_file import TokenFile
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.token import SCOPES, Token
from zebra_assets.errors import ZebraError
from zebra_assets.governance.tokens import belongs, id_of
from zebra_serving.budget import Budget
from zebra_serving.problems import RateLimited, Unauthorized

if TYPE_CHECKING:
    from zebra_serving.access.oidc import Oidc  # with PyJWT 50 ms and 10 MB that only servers with an issuer need

log = logging.getLogger(__name__)

LOOK_S = 1.0
GOOD_S, BAD_S = 300.0, 30.0
MOST_SEEN = 4096
FIX = 'curl -H "Authorization: Bearer $ZEBRA_SERVING_TOKEN" …, or: mlops token create NAME'
# Secrets compared a second by scrypt or signature: guesses must not take the processor from those who are known.
GUESSES_PER_S, GUESSES = 10.0, 40


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
        self._stamp: object = None
        self._look_at = 0.0
        self._good: dict[bytes, Identity] = {}
        self._bad: dict[bytes, Identity] = {}
        self._budget = Budget(GUESSES_PER_S, GUESSES, clock)
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
        key, moment = sha256(header).digest(), self._clock()
        bad = self._bad.get(key)
        if bad is None or moment >= bad.until:
            stamp = self._stamp
            who = await self._find(header, key)
            seen, lasts = (self._bad, BAD_S) if who.refusal else (self._good, GOOD_S)
            if stamp == self._stamp:  # else the tokens changed while it was compared, and the next request asks again
                if len(seen) >= MOST_SEEN:
                    del seen[next(iter(seen))]
                seen[key] = replace(who, until=min(who.until, self._clock() + lasts))
            if not who.refusal:
                return who
            bad = who
        raise Unauthorized(bad.refusal, fix=FIX)

    async def _find(self, header: bytes, key: bytes) -> Identity:
        if self._static is not None and hmac.compare_digest(key, self._static):
            return Identity("ZEBRA_SERVING_TOKEN", frozenset(SCOPES))
        kind, _, secret = header.partition(b" ")
        if kind.lower() != b"bearer" or not secret.isascii() or not secret:
            return _nobody("A bearer token is required.")
        text = secret.decode().strip()
        if (identity := id_of(text)) is not None:
            token = self._tokens.get(identity)
            if token is None:
                return _nobody("This token is not known here.")
            return await self._guess(self._of_book, text, token)
        if self._oidc is not None and text.count(".") == 2:
            return await self._guess(self._of_issuer, text, self._oidc)
        return _nobody("This token is not known here.")

    async def _guess(self, compare: Callable[..., Identity], *given: object) -> Identity:
        if not self._budget.take(1):
            raise RateLimited("Too many tokens are being tried that nobody has seen before.", after_s=1)
        return await asyncio.to_thread(compare, *given)

    def _of_book(self, secret: str, token: Token) -> Identity:
        if not belongs(secret, token):
            return _nobody("This token is not known here.")
        at = now()
        if (state := token.state(at)) != "valid":
            since = token.expires_at if state == "expired" else token.revoked_at
            return _nobody(f"Token '{token.name}' is {state} since {since:%Y-%m-%d %H:%M} UTC.")
        return Identity(token.name, frozenset(token.scopes), self._deadline(token.expires_at, at))

    def _of_issuer(self, text: str, oidc: "Oidc") -> Identity:
        try:
            said = oidc.read(text)
        except Unauthorized as error:
            return _nobody(error.message)
        return Identity(said.subject, said.scopes, self._deadline(said.expires_at, now()))

    def _deadline(self, expires_at: datetime | None, at: datetime) -> float:
        return self._clock() + (expires_at - at).total_seconds() if expires_at else float("inf")

    def _look(self, moment: float) -> None:
        """Read the file of tokens if it has changed; a file that cannot be read changes nothing."""
        self._look_at = moment + LOOK_S
        try:
            about = self._book.path.stat()
            stamp: object = (about.st_mtime_ns, about.st_size, about.st_ino)
        except FileNotFoundError:
            stamp = None
        except OSError as error:
            log.warning("the tokens are not read anew: %s", error)
            return
        if stamp == self._stamp:
            return
        try:
            self._tokens = {token.id: token for token in self._book.tokens()}
        except ZebraError as error:
            log.error("the tokens stay as they were: %s", error.message)
        self._stamp = stamp
        self.required = self.required or stamp is not None
        self._good.clear()
        self._bad.clear()


def _nobody(why: str) -> Identity:
    return Identity("", frozenset(), float("inf"), why)
