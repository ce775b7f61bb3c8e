"""The server's tokens in one JSON file, `<home>/serving/tokens.json`: replaced as a whole, for this user's eyes only.

A file and no table: the server must know its callers while the state database is away, and a mounted secret can take its
place (`ZEBRA_SERVING_TOKENS_FILE`). Written by `mlops token`, read by the server whenever it has changed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from zebra_assets.adapters.durable import room, staged, sync_folder
from zebra_assets.adapters.locks import FileLocks
from zebra_assets.contracts.token import Token, TokenBook
from zebra_assets.errors import Conflict, NotFound, SpecInvalid, Unavailable, did_you_mean

MAX_BYTES = 4 * 1024 * 1024


class TokenFile:
    """The tokens at ``path``; none while there is no such file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tokens(self) -> list[Token]:
        """All of them, oldest first.

        Raises:
            Unavailable: the file is there and cannot be read.
            SpecInvalid: it is no file of tokens.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
            return TokenBook.model_validate_json(data).tokens
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unavailable(f"The tokens in {self.path} cannot be read: {error.strerror}.", fix=f"ls -l {self.path}") from error
        except ValueError as error:
            first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            fix = f"bring back a copy, or start anew: rm {self.path}; mlops token create NAME"
            raise SpecInvalid(f"{self.path} is no file of tokens: {first}.", fix=fix) from error

    def add(self, token: Token, first: Callable[[], object] = lambda: None) -> None:
        """Keep one more. ``first`` is called when nothing stands in its way; if it raises, nothing is kept.

        Raises:
            Conflict: a token of this name is valid.
        """
        with self._turn():
            tokens = self.tokens()
            if any(t.name == token.name and t.state(token.created_at) == "valid" for t in tokens):
                raise Conflict(f"There is a token '{token.name}' already.", fix=f"mlops token revoke {token.name}, or take another name")
            first()
            self._write([*tokens, token])

    def revoke(self, name: str, at: datetime) -> Token:
        """Make the valid token of this name worthless.

        Raises:
            NotFound: no valid token has this name.
        """
        with self._turn():
            tokens = self.tokens()
            valid = {t.name: t for t in tokens if t.state(at) == "valid"}
            if name not in valid:
                raise NotFound(f"No token '{name}' is valid.{did_you_mean(name, list(valid))}", fix="mlops token list")
            revoked = valid[name].model_copy(update={"revoked_at": at})
            self._write([revoked if t.id == revoked.id else t for t in tokens])
        return revoked

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One writer at a time, so that a name stays unique."""
        with room(self.path.parent), FileLocks(self.path.parent).hold(self.path.name):
            yield

    def _write(self, tokens: list[Token]) -> None:
        with staged(self.path, TokenBook(tokens=tokens).to_json().encode(), 0o600) as scratch:
            scratch.replace(self.path)
        sync_folder(self.path.parent)
