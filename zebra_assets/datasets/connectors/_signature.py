"""What a file of text begins with where it is none: an archive or a table of another format under a name that ends in .csv.

Asked by `files` before any parser, whose complaint would be about whatever bytes come first. Columnar readers look at
their own.
"""

from pathlib import Path

from zebra_assets.errors import DataInvalid

_UNPACKED = "unpack it, or name it {file}{suffix}"
_FORMAT = "say so: source: {{parameters: {{format: {suffix}}}}}"
# First bytes, to one that no text has -> what it is, what helps, and the word that the help needs.
_SIGNATURES: dict[bytes, tuple[str, str, str]] = {
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack the archive, or save the sheet as CSV", ""),
    b"\xd0\xcf\x11\xe0": ("a spreadsheet", "save the sheet as CSV", ""),
    b"\x1f\x8b": ("packed by gzip", _UNPACKED, ".gz"),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", _UNPACKED, ".zst"),
    b"PAR1\x15": ("Parquet", _FORMAT, "parquet"),
    b"ARROW1\x00": ("an Arrow file", _FORMAT, "arrow"),
    b"SQLite format 3\x00": ("an SQLite database", "read it by the sql connector", ""),
    b"%PDF-": ("a PDF", "write its rows as CSV", ""),
}
_LONGEST = max(map(len, _SIGNATURES))


def refuse_other(file: Path, kind: str, where: str) -> None:
    """Look at the first bytes of a file that should be text.

    Raises:
        DataInvalid: they are those of something else, which is named.
    """
    with file.open("rb") as source:
        head = source.read(_LONGEST)
    for signature, (what, fix, word) in _SIGNATURES.items():
        if head.startswith(signature):
            raise DataInvalid(f"{where} is {what}, not {kind}.", fix=fix.format(file=file, suffix=word))
