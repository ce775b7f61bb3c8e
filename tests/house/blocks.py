"""Code blocks of a Markdown page that its tests carry out.

A block is tested when the line above its fence says how::

    <!-- test: run -->          every line must succeed, in order, in one project shared by the page's blocks
    <!-- test: run exit=7 -->   the block must end with this exit code
    <!-- test: model.yaml -->   the block must be a valid model.yaml; dataset.yaml likewise
"""

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^<!-- test: (?P<how>[^>]*?) -->\n```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One tested block: where it stands, how it is tested, its text."""

    page: str
    line: int
    how: str
    exit_code: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path, root: Path) -> list[Block]:
    """The tested blocks of a page, top to bottom.

    Raises:
        ValueError: a mark that stands above no fence, or says something unknown.
    """
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        how, _, rest = match["how"].partition(" ")
        line = text.count("\n", 0, match.start()) + 1
        expected = re.fullmatch(r"(?:exit=(\d+))?", rest.strip())
        if how not in {"run", "model.yaml", "dataset.yaml"} or expected is None:
            raise ValueError(f"{page}:{line}: unknown mark '{match['how']}'")
        name = page.relative_to(root).as_posix()
        found.append(Block(name, line, how, int(expected[1] or 0), match["language"], match["code"]))
    if len(found) != len(re.findall(r"^<!-- test:", text, re.M)):
        raise ValueError(f"{page}: a test mark does not stand directly above a fence")
    return found
