"""Rules across a row's columns, as `rules:` of a recipe writes them: ``start <= end``, ``status != "open" or closed >= opened``.

A tiny language of its own, so that nothing is ever evaluated as code:

    rule       = every ("or" every)*
    every      = one ("and" one)*
    one        = "not" one | "(" rule ")" | comparison | a bool column
    comparison = operand (operator operand)+        a <= b <= c  is  a <= b and b <= c
    operand    = column | number | "text" | 'text' | true | false
    operator   = < <= == != >= >

Columns that are no plain words stand in backquotes: `total charges` >= 0. Dates and times are ISO 8601 texts. As with
CHECK in SQL, a row breaks a rule only where it is false: a null on either side leaves it undecided, and the row passes. Here
is the language; how it runs over columns is in `datasets.rules`. Called by `dataset_spec`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import NoReturn

Cell = int | float | str | bool | date | datetime
MAX_CHARS, MAX_DEPTH = 500, 20
OPERATORS = ("<=", ">=", "==", "!=", "<", ">")
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)(?!\w)|(?P<text>"[^"]*"|'[^']*')"""
    r"""|(?P<operator><=|>=|==|!=|<|>|[()])|`(?P<quoted>[^`]+)`|(?P<word>[^\W\d]\w*))"""
)
_NUMBERS = {"int64", "float64"}


@dataclass(frozen=True)
class Column:
    """The row's cell in a column; alone, a bool column's truth."""

    name: str


@dataclass(frozen=True)
class Fixed:
    """A value written into the rule."""

    value: Cell


@dataclass(frozen=True)
class Comparison:
    """``left operator right``, of which at least one side is a column."""

    left: Column | Fixed
    operator: str
    right: Column | Fixed


@dataclass(frozen=True)
class Joined:
    """Parts that must all (``and``) or of which one (``or``) must hold."""

    word: str
    parts: tuple["Condition", ...]


@dataclass(frozen=True)
class Not:
    """What must not hold."""

    part: "Condition"


Condition = Column | Comparison | Joined | Not


def read_rule(text: str, dtypes: Mapping[str, str]) -> Condition:
    """The condition that ``text`` states over columns of the given dtypes; date and time texts become moments.

    Raises:
        ValueError: it is no rule, names an unknown column, or compares what cannot be compared.
    """
    return _typed(_parsed(text), dtypes, text)


def columns_of(condition: Condition) -> list[str]:
    """The columns a condition reads, each once, in the order they are named."""
    return list(dict.fromkeys(_named(condition)))


def _named(condition: Condition) -> Iterator[str]:
    if isinstance(condition, Column):
        yield condition.name
    elif isinstance(condition, Comparison):
        yield from (side.name for side in (condition.left, condition.right) if isinstance(side, Column))
    else:
        for part in condition.parts if isinstance(condition, Joined) else (condition.part,):
            yield from _named(part)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Condition:
    if len(text) > MAX_CHARS:
        raise ValueError(f"the rule has {len(text)} characters; {MAX_CHARS} is the limit")
    return _Reader(text).read()


class _Reader:
    """Recursive descent over the grammar above; `tokens` are (kind, text, place)."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.tokens = list(self._split())

    def _split(self) -> Iterator[tuple[str, str, int]]:
        at, end = 0, len(self.text.rstrip())
        while at < end:
            found = _TOKEN.match(self.text, at)
            if found is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                hint = "; equality is written ==" if self.text[at] == "=" else ""
                raise ValueError(f"rule {self.text!r}: {self.text[at : at + 10]!r} is no part of a rule{hint}")
            kind = str(found.lastgroup)
            yield kind, found[kind], found.start(kind)
            at = found.end()
        yield "end", "", end

    def read(self) -> Condition:
        condition = self._joined("or", 0)
        if self._kind() != "end":
            self._wrong("the end of the rule")
        return condition

    def _kind(self) -> str:
        return self.tokens[self.at][0]

    def _takes(self, *words: str) -> str | None:
        kind, said, _ = self.tokens[self.at]
        if kind not in ("word", "operator") or said not in words:
            return None
        self.at += 1
        return said

    def _wrong(self, wanted: str) -> NoReturn:
        _, said, place = self.tokens[self.at]
        raise ValueError(f"rule {self.text!r}: at character {place + 1} comes {said or 'the end'!r} where {wanted} should")

    def _joined(self, word: str, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            raise ValueError(f"rule {self.text!r} is nested deeper than {MAX_DEPTH}")
        parts = [self._below(word, depth)]
        while self._takes(word):
            parts.append(self._below(word, depth))
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def _below(self, word: str, depth: int) -> Condition:
        return self._joined("and", depth) if word == "or" else self._one(depth)

    def _one(self, depth: int) -> Condition:
        if self._takes("not"):
            if depth > MAX_DEPTH:
                raise ValueError(f"rule {self.text!r} is nested deeper than {MAX_DEPTH}")
            return Not(self._one(depth + 1))
        if self._takes("("):
            inner = self._joined("or", depth + 1)
            if not self._takes(")"):
                self._wrong("and, or or )")
            return inner
        sides, operators = [self._operand()], []
        while operator := self._takes(*OPERATORS):
            operators.append(operator)
            sides.append(self._operand())
        pairs = tuple(Comparison(a, op, b) for a, op, b in zip(sides, operators, sides[1:], strict=False))
        if pairs:
            return pairs[0] if len(pairs) == 1 else Joined("and", pairs)
        if not isinstance(sides[0], Column):
            self._wrong("a comparison")
        return sides[0]

    def _operand(self) -> Column | Fixed:
        kind, said, _ = self.tokens[self.at]
        if kind in ("end", "operator") or (kind == "word" and said in ("and", "or", "not")):
            self._wrong("a column or a value")
        self.at += 1
        if kind == "text":
            return Fixed(said[1:-1])
        if kind == "number":
            return Fixed(int(said) if said.lstrip("-").isdigit() else float(said))
        return Fixed(said == "true") if kind == "word" and said in ("true", "false") else Column(said)


def _typed(condition: Condition, dtypes: Mapping[str, str], text: str) -> Condition:
    if isinstance(condition, Joined):
        return Joined(condition.word, tuple(_typed(part, dtypes, text) for part in condition.parts))
    if isinstance(condition, Not):
        return Not(_typed(condition.part, dtypes, text))
    for name in columns_of(condition):
        if name not in dtypes:
            raise ValueError(f"rule {text!r} names column {name!r}, which `columns` does not list")
    if isinstance(condition, Comparison):
        return _comparable(condition, dtypes, text)
    if dtypes[condition.name] != "bool":
        raise ValueError(f"rule {text!r}: column {condition.name!r} is {dtypes[condition.name]}; compare it with something")
    return condition


def _comparable(said: Comparison, dtypes: Mapping[str, str], text: str) -> Comparison:
    left, right = (dtypes[side.name] if isinstance(side, Column) else None for side in (said.left, said.right))
    if left is None and right is None:
        raise ValueError(f"rule {text!r} compares two fixed values; name a column")
    pair = Comparison(_as(said.left, right, text), said.operator, _as(said.right, left, text))
    if left and right and left != right and not {left, right} <= _NUMBERS:
        raise ValueError(f"rule {text!r} compares {left} with {right}")
    if "bool" in (left, right) and said.operator not in ("==", "!="):
        raise ValueError(f"rule {text!r}: true and false have no order; use == or !=")
    return pair


def _as(side: Column | Fixed, dtype: str | None, text: str) -> Column | Fixed:
    """A literal as a value of the column it is compared with."""
    if isinstance(side, Column) or dtype is None:
        return side
    value = side.value
    try:
        if dtype == "date" and isinstance(value, str):
            return Fixed(date.fromisoformat(value))
        if dtype == "timestamp" and isinstance(value, str):
            when = datetime.fromisoformat(value)
            return Fixed(when if when.tzinfo else when.replace(tzinfo=UTC))
    except ValueError as error:
        raise ValueError(f"rule {text!r}: {value!r} is no ISO 8601 {dtype}") from error
    kinds: tuple[type, ...] = {"string": (str,), "bool": (bool,), "int64": (int, float), "float64": (int, float)}.get(dtype, ())
    if not isinstance(value, kinds) or (isinstance(value, bool) and dtype != "bool"):
        raise ValueError(f"rule {text!r} compares {dtype} with {value!r}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"rule {text!r}: {value} is beyond 64 bits")
    return side
