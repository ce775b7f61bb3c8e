"""Whether a text is exactly one SELECT, for the database that will read it. Called by `sql` before anything is sent.

Databases disagree on where a text, a name or a comment ends, so each has its own reading here, and MySQL, where a server
setting decides what a backslash means, has two: a query must be one SELECT in every reading of its database. What cannot
be told for sure (an open quote, a comment in a comment, MySQL's comments that are executed) is refused. This is the
first of three walls; a read-only transaction and the database's own rights stand behind it.
"""

import re

from zebra_assets.errors import SpecInvalid

_TEXT, _NAME, _TICKED, _BRACKETED = r"'(?:[^']|'')*'", r'"(?:[^"]|"")*"', r"`(?:[^`]|``)*`", r"\[[^\]]*\]"
_BACKSLASHED = r"'(?:[^'\\]|\\.|'')*'"
_LINE = r"--[^\n]*"
_BLOCK = r"/\*(?:(?!/\*|\*/).)*\*/"
_DOLLARED = r"(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$"
# MySQL: "-- " needs its blank, '#' begins a comment, /*! and /*+ are executed.
_MYSQL = [_TICKED, r"--(?=\s|$)[^\n]*", r"#[^\n]*", r"/\*(?![!+]|M!)(?:(?!/\*|\*/).)*\*/"]
_READINGS: dict[str, list[list[str]]] = {
    "sqlite": [[_TEXT, _NAME, _TICKED, _BRACKETED, _LINE, _BLOCK]],
    "postgresql": [[rf"(?<![\w$])[eE]{_BACKSLASHED}", _TEXT, _NAME, _DOLLARED, _LINE, _BLOCK]],
    "mysql": [[_BACKSLASHED, _BACKSLASHED.replace("'", '"'), *_MYSQL], [_TEXT, _NAME, *_MYSQL]],
}
_READINGS["mariadb"] = _READINGS["mysql"]
_EVERY = [reading for name in ("sqlite", "postgresql", "mysql") for reading in _READINGS[name]]
# What writes from within a SELECT: in a WITH, as SELECT ... INTO, as FOR UPDATE.
_WRITES = re.compile(r"(?<![\w$])(insert|update|delete|merge|into)(?![\w$])", re.IGNORECASE)


def one_select(query: str, dialect: str = "") -> str:
    """Return the query without a closing ';', if it is exactly one SELECT (or WITH ... SELECT) and writes nothing.

    Args:
        dialect: SQLAlchemy's name of the database; a stranger's must be one SELECT in every known reading.

    Raises:
        SpecInvalid: anything else.
    """
    text = query.strip()
    ends = {_end(text, reading) for reading in _READINGS.get(dialect, _EVERY)}
    if len(ends) != 1:
        raise _refused("its end is not clear")
    end = ends.pop()
    return text if end is None else (text[:end] + " " + text[end + 1 :]).rstrip()


def _end(text: str, reading: list[str]) -> int | None:
    """Where the closing ';' stands, None where there is none."""
    # Blanks of the same length, so that what is found stands where it stood.
    bare = re.sub("|".join(reading), lambda match: " " * len(match[0]), text, flags=re.DOTALL)
    if "\x00" in bare or any(mark in bare for mark in ("'", '"', "`", "/*", "$$")):
        raise _refused("a quote or a comment is not closed, or is of a kind that is not read")
    first = re.match(r"[\s(]*(\w*)", bare)
    if first is None or first[1].lower() not in ("select", "with"):
        raise _refused("it begins with another word")
    body = bare.rstrip()
    end = len(body) - 1 if body.endswith(";") else None
    if ";" in body[:end]:
        raise _refused("there is a ';' within it")
    if not _balanced(bare):
        raise _refused("its parentheses do not match")
    if writes := _WRITES.search(bare):
        raise _refused(f"it says {writes[1].upper()}; quote it if it is the name of a column")
    return end


def _balanced(bare: str) -> bool:
    depth = 0
    for mark in re.findall(r"[()]", bare):
        depth += 1 if mark == "(" else -1
        if depth < 0:
            return False
    return not depth


def _refused(why: str) -> SpecInvalid:
    return SpecInvalid(f"source.query is not exactly one SELECT: {why}.", fix="keep one SELECT, without ';', in source.query")
