"""What may be recorded of a prediction, and as what: plain, as a keyed hash, or not at all. Asked by `capture` and `memory`.

A hash is HMAC-SHA256 over the column's name and the value, cut to 128 bits: equal values of a column stay equal, a value of
two columns does not, and whoever lacks the key cannot try the few values that a column may have. The key is the setting
`serving_hash_key`, or a file of the project for its user's eyes only; with another key, the same values hash otherwise.
"""

import hmac
from dataclasses import dataclass, replace
from typing import Any

from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.errors import Refused
from zebra_assets.settings import Settings
from zebra_serving.compile.seal import key_at
from zebra_serving.sketches import spelled

_WORD = b"zebra-field-v1\0"


@dataclass(frozen=True)
class Recording:
    """What may be recorded of a model's predictions. The default records nothing.

    Attributes:
        share: of the predictions, as events.
        per_second: most events a second; None for no limit.
        hidden: columns that are never recorded.
        only: columns that may be; None for all others.
        hashed: columns whose values are recorded as hashes.
        key: of the hashes.
    """

    share: float = 0.0
    per_second: float | None = None
    hidden: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    hashed: frozenset[str] = frozenset()
    key: bytes = b""

    @classmethod
    def of(cls, spec: ModelSpec, settings: Settings) -> "Recording":
        """As model.yaml says; makes the project's key where hashes are asked for and there is none.

        Raises:
            Refused: the key's file cannot be read, or is not this user's own.
        """
        serving, only = spec.serving, spec.serving.fields
        hidden, hashed = frozenset(spec.sensitive.attributes), frozenset(serving.hashed)
        return cls(
            serving.sample_rate,
            serving.events_per_second,
            hidden,
            None if only is None else frozenset(only),
            hashed,
            _key(settings) if hashed else b"",
        )

    def shared_by(self, workers: int) -> "Recording":
        """One worker's part of the limit."""
        return replace(self, per_second=self.per_second / workers) if self.per_second else self

    def shows(self, column: str) -> bool:
        """Whether a column may be recorded, in whatever form."""
        return column not in self.hidden and (self.only is None or column in self.only or column in self.hashed)

    def kept(self, column: str, value: Any) -> Any:
        """A value as it is recorded."""
        return value if value is None or column not in self.hashed else self.hash(column, value)

    def hash(self, column: str, value: Any) -> str:
        """A value that nobody is to read, in 37 characters."""
        said = b"\0".join((_WORD, column.encode(), spelled(value).encode()))
        return "hmac-" + hmac.digest(self.key, said, "sha256")[:16].hex()


NOTHING = Recording()


def _key(settings: Settings) -> bytes:
    if settings.serving_hash_key is not None:
        return settings.serving_hash_key.get_secret_value().encode()
    path = settings.home / "serving" / "fields.key"
    try:
        return key_at(path)
    except OSError as error:
        raise Refused(f"The key of hashed columns cannot be kept: {error}.", fix=f"rm {path}, or set ZEBRA_SERVING_HASH_KEY") from error
