"""Input that somebody made to hurt: each is refused with its reason, soon, and in little memory.

Every case is one command on a project of its own, carried out by `hostile` in a fork that is measured. What may not happen:
a crash, a bug report instead of a reason, a file outside the project, a socket to anywhere but loopback.
"""

import gzip
import io
import json
import os
import re
import sqlite3
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.datasets.hostile import Outcome, Warm, warm
from tests.datasets.web import Handler, Web, serve

GROWTH = 64 << 20  # bytes above what a good ingest takes
SECONDS = 10  # a bound for a busy machine; alone, the slowest takes under 2
OURS = range(2, 11)  # exit codes of `errors`
COLUMNS = {"id": {"dtype": "int64"}, "x": {"dtype": "string", "nullable": True}}
ROWS = "id,x\n" + "".join(f"{i},v{i}\n" for i in range(300))

Prepare = Callable[[Path], None]


def cases(names: Iterable[str], quick: int = 1000) -> list[Any]:
    """Parameters of a test: the first ``quick`` always, the others in the long run."""
    return [
        pytest.param(
            name,
            id=name if name.isascii() and name.isprintable() and len(name) < 70 else repr(name[:20]),
            marks=[pytest.mark.slow] if i >= quick else [],
        )
        for i, name in enumerate(names)
    ]


def declare(project: Path, source: dict[str, Any], **parts: Any) -> None:
    """A project with the dataset ``rows``."""
    for folder in ("models", "data", "manifests/rows"):
        (project / folder).mkdir(parents=True, exist_ok=True)
    recipe = {"schema_version": 1, "name": "rows", "source": source, "columns": COLUMNS, "key": ["id"]} | parts
    (project / "manifests/rows/dataset.yaml").write_text(yaml.safe_dump(recipe))


def file(name: str, make: Callable[[Path], object], **parts: Any) -> Prepare:
    """A project whose source is ``data/<name>``, which ``make`` writes."""

    def prepare(project: Path) -> None:
        declare(project, {"connector": "files", "path": f"data/{name}"}, **parts)
        make(project / "data" / name)

    return prepare


def content(name: str, data: bytes | Callable[[], bytes], **parts: Any) -> Prepare:
    """The same with bytes at hand, or with bytes that are costly enough to be made only when the case runs."""
    return file(name, lambda path: path.write_bytes(data if isinstance(data, bytes) else data()), **parts)


def text(recipe: str) -> Prepare:
    """A project whose dataset.yaml is this text."""

    def prepare(project: Path) -> None:
        declare(project, {"connector": "files", "path": "data/a.csv"})
        (project / "data/a.csv").write_text(ROWS)
        (project / "manifests/rows/dataset.yaml").write_text(recipe)

    return prepare


def path(source: str, before: Callable[[Path], object] = lambda project: None) -> Prepare:
    """A project whose source path is this."""

    def prepare(project: Path) -> None:
        declare(project, {"connector": "files", "path": source})
        before(project)

    return prepare


@pytest.fixture(scope="module")
def warmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    good = tmp_path_factory.mktemp("good")
    content("a.csv", ROWS.encode())(good)
    with warm(good) as process:
        yield process


@pytest.fixture(scope="module")
def calm(warmed: Warm, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A good ingest of 300 rows: what everything here is measured against."""
    project = tmp_path_factory.mktemp("calm")
    content("a.csv", ROWS.encode())(project)
    done = warmed.run("--project", str(project), "ingest", "rows")
    assert done.code == 0, done.err
    return done


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as server:
        yield server


Refuse = Callable[..., Outcome]


@pytest.fixture
def refused(warmed: Warm, calm: Outcome, tmp_path: Path) -> Refuse:
    """Carry a command out on a hostile project and hold it to everything that must be true of any."""

    def run(prepare: Prepare, says: str, *words: str, growth: int = GROWTH, **env: str) -> Outcome:
        project = tmp_path / "project"
        prepare(project)
        before = around(tmp_path)
        done = warmed.run("--project", str(project), *(words or ("ingest", "rows")), **env)
        print(
            f"{done.seconds - calm.seconds:.2f} s and {(done.grew - calm.grew) / 1e6:.1f} MB above a good ingest; exit {done.code}: {done.err}"
        )
        assert not done.killed_by, f"killed by signal {done.killed_by}: {done.err}"
        assert done.code in OURS, f"exit {done.code}: {done.err}"
        assert re.search(says, done.err, re.IGNORECASE), done.err
        assert "Traceback" not in done.err and "bug:" not in done.err and len(done.err) < 4000
        assert done.reached == []
        assert around(tmp_path) == before, "something was written beside the project"
        assert not [p for p in project.rglob("*") if p.is_file() and ("objects" in p.parts or p.match("manifests/rows/*.json"))]
        assert done.grew - calm.grew < growth, f"{(done.grew - calm.grew) / 1e6:.0f} MB"
        assert done.seconds < SECONDS
        return done

    return run


def around(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


# -- files ------------------------------------------------------------------------------------------------------------------


def gzip_bomb(megabytes: int) -> bytes:
    """Honest gzip of valid CSV, member after member: 100 MB are some 100 kB."""
    member = gzip.compress(b"1,aaaaaaaaaaaaa\n" * (1 << 20) * 6, 9, mtime=0)  # 96 MiB
    return gzip.compress(b"id,x\n", mtime=0) + member * max(megabytes // 100, 1)


def zst_bomb(path: Path) -> None:
    import zstandard

    frame = zstandard.ZstdCompressor(level=3).compress(b"1,aaaaaaaaaaaaa\n" * (1 << 20) * 6)
    path.write_bytes(zstandard.ZstdCompressor().compress(b"id,x\n") + frame * 100)


def zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"0" * (100 << 20))
    return out.getvalue()


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd")
    return out.getvalue()


def varint(number: int) -> bytes:
    """A thrift compact i64."""
    number, out = (number << 1) ^ (number >> 63), bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def lying(raw: bytes, truth: int, lie: int, most: int = 99) -> bytes:
    """A Parquet file whose footer says ``lie`` where it said ``truth``."""
    size = int.from_bytes(raw[-8:-4], "little")
    footer = raw[-8 - size : -8].replace(varint(truth), varint(lie), most)
    return raw[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def dictionary_bomb(path: Path) -> None:
    """One text of 1 MB, named by 500,000 rows: 500 GB when written out, some kB on disk."""
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 500_000, pa.int32()), pa.array(["x" * (1 << 20)]))
    pq.write_table(pa.table({"id": pa.array(range(500_000), pa.int64()), "x": words}), path, compression="zstd")


def sparse(path: Path, size: int, start: bytes = b"") -> None:
    with path.open("wb") as out:
        out.write(start)
        out.truncate(size)


WIDE = [f"c{i}" for i in range(10_000)]
HONEST = parquet(id=list(range(12_345)), x=[f"v{i}" for i in range(12_345)])
FILES: dict[str, tuple[Prepare, str]] = {
    "gzip of 97 kB that swells to 100 MB": (content("a.csv.gz", lambda: gzip_bomb(100)), "bomb|swells"),
    "gzip of 10 MB that swells to 10 GB": (content("a.csv.gz", lambda: gzip_bomb(10_000)), "bomb|swells"),
    "gzip of one endless line": (content("a.csv.gz", lambda: gzip.compress(b"id" * (100 << 19))), "bomb|swells|line|header"),
    "gzip of JSON lines that swells": (content("a.jsonl.gz", lambda: gzip.compress(b'{"id":1,"x":"aaaaa"}\n' * 5_000_000)), "bomb|swells"),
    "gzip cut in half": (content("a.csv.gz", gzip.compress(ROWS.encode())[:300]), "cannot be read|ended"),
    "gzip with a wrong checksum": (content("a.csv.gz", gzip.compress(ROWS.encode())[:-8] + bytes(8)), "cannot be read|crc|incorrect"),
    "zstd that swells to 10 GB": (file("a.csv.zst", zst_bomb), "bomb|swells"),
    "zip named .csv": (content("a.csv", zip_bomb), "UTF-8|zip"),
    "zip named .zip": (content("a.zip", zip_bomb), "format"),
    "zip named .csv.gz": (content("a.csv.gz", zip_bomb), "gzip|cannot be read"),
    "parquet whose footer claims a million rows": (content("a.parquet", lying(HONEST, 12_345, 1_000_000)), "cannot be read|rows"),
    "parquet whose footer claims 2**40 rows": (content("a.parquet", lying(HONEST, 12_345, 1 << 40)), "cannot be read|rows"),
    "parquet whose footer claims fewer rows": (content("a.parquet", lying(HONEST, 12_345, 12_344, 1)), "cannot be read|rows"),
    "parquet whose footer claims -1 rows": (content("a.parquet", lying(HONEST, 12_345, -1)), "cannot be read|rows"),
    "parquet whose footer is said to be 4 GB": (content("a.parquet", HONEST[:-8] + b"\xff\xff\xff\xff" + b"PAR1"), "cannot be read"),
    "parquet whose footer is noise": (content("a.parquet", HONEST[:-900] + bytes(range(200)) * 4 + HONEST[-100:]), "cannot be read"),
    "parquet cut in half": (content("a.parquet", HONEST[: len(HONEST) // 2]), "cannot be read"),
    "parquet with its middle torn out": (
        content("a.parquet", HONEST[:500] + bytes(9000) + HONEST[9500:]),
        "cannot be read|rules|do not fit",
    ),
    "parquet of 500 GB in 30 kB": (file("a.parquet", dictionary_bomb), "bomb|swells|wide|too large|larger"),
    "parquet with 10,000 columns": (content("a.parquet", lambda: parquet(**{c: [1] for c in WIDE})), "columns"),
    "parquet with 10,000 columns, two of them ours": (
        content("a.parquet", lambda: parquet(id=[1], x=["a"], **{c: [1] for c in WIDE})),
        "columns",
    ),
    "CSV with 10,000 columns": (content("a.csv", (",".join(WIDE) + "\n").encode() * 20), "columns"),
    "CSV with 10,000 columns, two of them ours": (content("a.csv", (",".join(["id", "x", *WIDE]) + "\n").encode() * 20), "columns"),
    "CSV whose header is one line of 500 MB": (file("a.csv", lambda p: sparse(p, 500 << 20, b"id,x")), "line|header|field"),
    "CSV whose second line is 500 MB": (file("a.csv", lambda p: sparse(p, 500 << 20, b"id,x\n1,")), "line|block|larger"),
    "CSV of a terabyte of nothing": (file("a.csv", lambda p: sparse(p, 1 << 40)), "line|header|field"),
    "CSV with a quote that never closes": (content("a.csv", lambda: b'id,x\n1,"' + b"a,b\n" * 10_000_000), "line|block|larger|quote"),
    "CSV with NUL bytes": (content("a.csv", b"id,x\n1\x00,\x00\n" * 10), "not"),
    "CSV with a NUL in its header": (content("a.csv", b"id\x00,x\n1,a\n"), "missing|NUL|header"),
    "CSV that is not UTF-8": (content("a.csv", b"id,x\n1,\xff\xfe\xc3\n"), "UTF-?8"),
    "CSV with integers of 5,000 digits": (content("a.csv", b"id,x\n" + b"9" * 5000 + b",a\n"), "int64"),
    "CSV with a million bad lines": (content("a.csv", b"id,x\n" + b"1\n" * 1_000_000), "at least 10,000 lines"),
    "JSON nested 100,000 deep": (content("a.jsonl", b'{"id": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"), "nested|deep|fit"),
    "JSON nested 100,000 deep in a field nobody asked for": (
        content("a.jsonl", b'{"id": 1, "x": "a", "y": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}\n"),
        "nested|deep|fit|recursion",
    ),
    "JSON with integers of 5,000 digits": (content("a.jsonl", b'{"id": ' + b"9" * 5000 + b', "x": "a"}\n'), "lines|fit|int"),
    "JSON with integers beyond 64 bits": (content("a.jsonl", b'{"id": 18446744073709551616, "x": "a"}\n'), "lines|fit|int"),
    "JSON line of 100 MB": (content("a.jsonl", lambda: b'{"id": 1, "x": "' + b"a" * (100 << 20) + b'"}\n'), "line|block|larger"),
    "JSON line of 500 MB of nothing": (file("a.jsonl", lambda p: sparse(p, 500 << 20)), "line|JSON|block"),
    "JSON with lone surrogates": (content("a.jsonl", b'{"id": 1, "x": "\\ud800"}\n'), "JSON|UTF|surrogate|fit|cannot"),
    "JSON that is not UTF-8": (content("a.jsonl", b'{"id": 1, "x": "\xff"}\n'), "JSON|UTF|fit"),
    "arrow cut in half": (content("a.arrow", b"ARROW1\x00\x00" + bytes(500)), "cannot be read"),
    "arrow with a message of 2 GB": (content("a.arrow", b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(500)), "cannot be read"),
    "a device": (path("/dev/zero"), "no file|device|regular"),
    "a named pipe": (path("data/pipe.csv", lambda project: os.mkfifo(project / "data/pipe.csv")), "no file|pipe|regular"),
    "a folder named .csv": (path("data/a.csv", lambda project: (project / "data/a.csv").mkdir()), "no file|folder|regular"),
    "a symlink out of the project": (path("data/a.csv", lambda project: (project / "data/a.csv").symlink_to("/etc/passwd")), "leads out"),
    "a folder symlinked out of the project": (path("data/in/*", lambda project: (project / "data/in").symlink_to("/etc")), "leads out"),
    "a symlink to itself": (path("data/a.csv", lambda project: (project / "data/a.csv").symlink_to("a.csv")), "no file|loop|symlink"),
    "a glob of many stars": (
        path("/".join(["**"] * 12) + "/*.csv", lambda project: (project / "/".join("abcdefghijklmnopqrst")).mkdir(parents=True)),
        r"no file|\*\*",
    ),
}
PATHS = ("../../../etc/passwd", "data/../../x.csv", "data\x00.csv", "\x00", "a" * 5000 + ".csv", "%2e%2e/x.csv", "..\\..\\x.csv", "data/․․/x.csv", "／etc／passwd", "~root/x.csv", "file:///etc/passwd.csv", "/proc/self/mem", "/proc/self/environ", "$HOME/x.csv", "data/[.csv", "**", "")  # fmt: skip


@pytest.mark.parametrize("name", cases(FILES))
def test_a_hostile_file_is_refused(name: str, refused: Refuse) -> None:
    refused(*FILES[name])


@pytest.mark.parametrize("source", cases(PATHS, quick=6))
def test_no_source_path_leads_astray(source: str, refused: Refuse) -> None:
    refused(path(source), "path|file|file|format|empty|NUL|control")


# -- YAML and names ---------------------------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
RECIPE = "schema_version: 1\nname: rows\nsource: {connector: files, path: data/a.csv}\nkey: [id]\ncolumns:\n"
YAML: dict[str, tuple[str, str]] = {
    "a billion laughs": (LAUGHS, "anchors"),
    "an anchor that holds itself": ("a: &a [*a]", "anchors"),
    "a python object": ('name: !!python/object/apply:os.system ["touch /tmp/owned"]', "tag"),
    "a python name": ("name: !!python/name:os.system ''", "could not determine a constructor|tag"),
    "10 MB": ("# " + "x" * (10 << 20), "bytes"),
    "lists nested 100,000 deep": ("- " * 100_000, "nested"),
    "brackets nested 200,000 deep": ("[" * 200_000, "nested"),
    "braces nested 60,000 deep": ("{a: " * 60_000, "nested"),
    "a list of 60,000 wrong values": (f"{RECIPE}  id: {{dtype: int64, values: [{','.join(['[]'] * 60_000)}]}}", "items"),
    "25,000 unknown fields": ("\n".join(f"k{i}: 1" for i in range(25_000)), "items"),
    "3,000 unknown fields": ("\n".join(f"k{i}: 1" for i in range(3000)), "and 2,983 more"),
    "2,001 columns": (RECIPE + "".join(f"  c{i}: {{dtype: int64}}\n" for i in range(2001)), "2000"),
    "an integer of 200,000 digits": ("name: " + "9" * 200_000, "no int"),
    "an integer in sixties": ("name: 1" + ":59" * 60_000, "no int"),
    "the 30th of February": ("name: 2026-02-30", "no timestamp"),
    "a name of 200,000 letters": (f"name: {'a' * 200_000}", "not a legal name"),
    "a mapping as a key": ("? {a: 1}\n: b", "no key"),
    "NUL bytes": ("name: a\0b", "control characters"),
    "a key twice": ("name: a\nname: b", "twice"),
    "a key column with a way out": (RECIPE.replace("[id]", "[../../x]") + "  id: {dtype: int64}", "does not list"),
    "a split with a way out": (RECIPE.replace("key: [id]", "splits: {fractions: {../x: 1}}") + "  id: {dtype: int64}", "fractions"),
    "a connector of another module": (RECIPE.replace("files", "os:system") + "  id: {dtype: int64}", "connector|config|argument"),
    "a connector with a way out": (RECIPE.replace("connector: files", "connector: ../files") + "  id: {dtype: int64}", "connector"),
}
NAMES = ("../x", "..", ".", "/etc/passwd", "%2e%2e%2fx", "a\x00b", "a\\..\\b", "a／b", "․․/x", "a" * 256, "a\n", "rows;drop table x", "' or 1=1 --", "${HOME}", "$(id)", "-", "rows/../rows", "ROWS", "", "rows\u202e", "con:")  # fmt: skip


@pytest.mark.parametrize("name", cases(YAML))
def test_a_hostile_recipe_is_refused(name: str, refused: Refuse) -> None:
    recipe, says = YAML[name]
    refused(text(recipe), says)
    assert not Path("/tmp/owned").exists()


@pytest.mark.parametrize("name", cases(NAMES, quick=5))
def test_a_name_that_is_none_reaches_no_path(name: str, refused: Refuse) -> None:
    prepare = content("a.csv", ROWS.encode())
    for words in (("ingest",), ("show",), ("verify",), ("diff", "rows-0123456789abcdef")):
        refused(prepare, "name|id|option|argument", *words, "--", name)


def test_a_recipe_of_another_name_than_its_folder_is_refused(refused: Refuse) -> None:
    refused(text((RECIPE + "  id: {dtype: int64}").replace("name: rows", "name: other")), "folder is 'rows'")


# -- SQL --------------------------------------------------------------------------------------------------------------------


def shop(query: str, url: str = "sqlite:///data/shop.db", **parameters: Any) -> Prepare:
    """A project whose rows come from a database."""

    def prepare(project: Path) -> None:
        declare(project, {"connector": "sql", "url": url, "query": query, "parameters": parameters})
        with sqlite3.connect(project / "data/shop.db") as db:
            db.execute("create table rows (id integer, x text)")
            db.executemany("insert into rows values (?, ?)", [(i, f"v{i}") for i in range(300)])
        db.close()

    return prepare


SHORT = "sqlite:///data/shop.db?zebra_timeout_s=1"
ENDLESS = "WITH RECURSIVE t(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM t) "
SQL: dict[str, tuple[Prepare, str]] = {
    "two statements": (shop("SELECT id, x FROM rows; DROP TABLE rows"), "exactly one SELECT"),
    "two statements behind a comment": (shop("SELECT id, x FROM rows /* ; */ ; DELETE FROM rows --"), "exactly one SELECT"),
    "a write in a WITH": (shop("WITH a AS (SELECT 1) DELETE FROM rows"), "refused the query|SELECT"),
    "a write that returns": (shop("WITH a AS (SELECT 1) INSERT INTO rows VALUES (7, 'x') RETURNING id, x"), "refused the query|SELECT"),
    "a pragma": (shop("PRAGMA writable_schema = 1"), "exactly one SELECT"),
    "another database attached": (shop("ATTACH '/tmp/owned.db' AS o"), "exactly one SELECT"),
    "an extension loaded": (shop("SELECT load_extension('/tmp/owned') AS id, 'x' AS x"), "refused the query"),
    "a parameter that is a statement": (shop("SELECT id, x FROM rows WHERE x = :x", x="'; DROP TABLE rows; --"), "no rows"),
    "a parameter that is a list": (shop("SELECT id, x FROM rows WHERE x = :x", x=["a", "b"]), "refused the query|parameter"),
    "a parameter that is a mapping": (shop("SELECT id, x FROM rows WHERE x = :x", x={"a": 1}), "refused the query|parameter"),
    "a parameter of 20 digits": (shop("SELECT id, x FROM rows WHERE id = :x", x=10**20), "refused the query|parameter"),
    "a parameter that is missing": (shop("SELECT id, x FROM rows WHERE x = :x"), "refused the query|parameter"),
    "a database outside": (shop("SELECT 1 AS id", url="sqlite:///../../other.db"), "leaves"),
    "a driver that is none": (shop("SELECT 1 AS id", url="os+system:///x"), "driver|dialect"),
    "a URL that is none": (shop("SELECT 1 AS id", url="'; DROP TABLE rows"), "url"),
    "a secret that is none": (shop("SELECT 1 AS id", url="sqlite:///${NO_SUCH_SECRET}.db"), "secret"),
    "rows without end": (shop(ENDLESS + "SELECT id, 'x' AS x FROM t", url=SHORT), "second|time|longer"),
    "a count without end": (shop(ENDLESS + "SELECT count(*) AS id, 'x' AS x FROM t", url=SHORT), "second|time|longer"),
    "a cell of a gigabyte": (shop("SELECT 1 AS id, hex(zeroblob(499999999)) AS x"), "larger|too big|refused the query"),
    "10,000 columns": (shop("SELECT " + ", ".join(f"1 AS c{i}" for i in range(10_000))), "columns"),
}


@pytest.mark.parametrize("name", cases(SQL))
def test_hostile_sql_is_refused_and_writes_nothing(name: str, refused: Refuse, tmp_path: Path) -> None:
    refused(*SQL[name])
    with sqlite3.connect(tmp_path / "project/data/shop.db") as db:
        assert db.execute("select count(*), sum(id) from rows").fetchone() == (300, 44_850)
    db.close()
    assert not Path("/tmp/owned.db").exists()


def test_wide_rows_are_refused_before_a_block_of_them_fills_the_memory(refused: Refuse) -> None:
    """A block is 65,536 rows however wide, so their bytes need a bound of their own."""
    wide = shop(ENDLESS + "SELECT id, hex(zeroblob(500000)) AS x FROM t LIMIT 100000")
    refused(wide, "more than 16 KB each", growth=600 << 20)


# -- HTTP -------------------------------------------------------------------------------------------------------------------


def fetch(web: Web, refused: Refuse, says: str, at: str = "/rows.csv", **parameters: Any) -> Outcome:
    """Ingest from the server, which recipe and deployment both allow."""
    quick = {"attempts": 1, "timeout_s": 0.5, "max_seconds": 0.8, "max_bytes": 1 << 20}
    return refused(lambda project: declare(project, web.source(at, **quick | parameters)), says, ZEBRA_HTTP_ALLOW_PRIVATE=web.place)


def body(make: Callable[[], Iterator[bytes]], *headers: str) -> Callable[[Handler], None]:
    """An answer that goes on until the reader leaves."""

    def answer(handler: Handler) -> None:
        handler.wfile.write("\r\n".join(["HTTP/1.1 200 OK", *headers, "\r\n"]).encode())
        for piece in make():
            handler.wfile.write(piece)
        handler.close_connection = True

    return answer


def chunks(piece: bytes, pause: float = 0) -> Iterator[bytes]:
    while True:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
        time.sleep(pause)


def forever(piece: bytes, pause: float = 0) -> Iterator[bytes]:
    while True:
        yield piece
        time.sleep(pause)


def swelling() -> Iterator[bytes]:
    """A gzip stream of 10 GB, some 10 MB of it."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    for _ in range(10_000):
        yield pack.compress(bytes(1 << 20))
    yield pack.flush()


INSIDE = ("http://169.254.169.254/latest/meta-data/", "http://2130706433:1/", "http://127.0.0.1:1/", "http://[::ffff:169.254.169.254]/", "http://10.0.0.1/", "http://[::1]:1/", "http://localhost:1/", "http://0x7f.1/", "http://0177.0.0.1/", "http://2852039166/", "http://[fd00:ec2::254]/", "http://192.168.1.1:8080/", "http://0/", "http://[64:ff9b::a9fe:a9fe]/", "http://168.63.129.16/", "http://100.100.100.200/")  # fmt: skip
ELSEWHERE = ("file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "unix:///var/run/docker.sock", "//169.254.169.254/x", "http://a@127.0.0.1:1/", "http://127.0.0.1:99999/")  # fmt: skip


@pytest.mark.parametrize("target", cases([*INSIDE, *ELSEWHERE], quick=7))
def test_a_redirect_leads_nowhere_inside(target: str, web: Web, refused: Refuse) -> None:
    web.gives("/rows.csv", b"", 302, Location=target)
    fetch(web, refused, "not public|port|leads|only http|redirect|no URL|URL|host")
    assert len(web.seen) == 1


@pytest.mark.parametrize("target", cases(INSIDE, quick=2))
def test_no_url_leads_inside(target: str, refused: Refuse) -> None:
    refused(
        lambda project: declare(project, {"connector": "http", "url": target, "parameters": {"format": "csv"}}), "not public|port|no URL"
    )


def test_redirects_without_end_end(web: Web, refused: Refuse) -> None:
    web.gives("/rows.csv", b"", 302, Location="/rows.csv")
    fetch(web, refused, "redirects more than")


HTTP: dict[str, tuple[Callable[[Handler], None], str]] = {
    "a body that drips": (body(lambda: forever(b"1,a\n", 0.1), "Content-Length: 100000"), "time|complete"),
    "a header that drips": (lambda h: [h.wfile.write(b"H") for _ in forever(b"", 0.1)] and None, "time|complete"),
    "silence": (lambda h: time.sleep(3), "time|complete"),
    "chunks without end": (body(lambda: chunks(b"1,a\n" * 9999), "Transfer-Encoding: chunked"), "larger|time"),
    "a chunk of 2**63 bytes": (body(lambda: iter([b"7fffffffffffffff\r\n", *[b"1,a\n" * 999] * 999]), "Transfer-Encoding: chunked"), "larger|complete"),
    "headers without end": (lambda h: [h.wfile.write(b) for b in forever(b"X-A: " + b"a" * 4000 + b"\r\n")] and None, "complete"),
    "one line without end": (lambda h: [h.wfile.write(b) for b in forever(b"HTTP/1.1 200 " + b"a" * 4000)] and None, "complete"),
    "provisional answers without end": (lambda h: [h.wfile.write(b) for b in forever(b"HTTP/1.1 100 Continue\r\n\r\n")] and None, "complete|time"),
    "trailers without end": (
        body(lambda: iter([b"0\r\n", *[b"X-A: " + b"a" * 4000 + b"\r\n"] * 9999]), "Transfer-Encoding: chunked"),
        "complete|time|rows|empty|larger",
    ),
    "gzip of 10 MB that swells to 10 GB": (body(swelling, "Content-Encoding: gzip", "Transfer-Encoding: identity"), "larger|swells|complete"),
    "a packing nobody asked for": (body(lambda: iter([b"x"]), "Content-Encoding: br", "Content-Length: 1"), "packed as"),
    "a length of 10 TB": (body(lambda: forever(b"1,a\n" * 9999), "Content-Length: 10000000000000"), "larger"),
    "a negative length": (body(lambda: iter([b"id,x\n1,a\n"]), "Content-Length: -5"), "complete"),
    "two lengths": (body(lambda: iter([b"id,x\n1,a\n"]), "Content-Length: 5", "Content-Length: 9"), "complete"),
    "a body cut short": (body(lambda: iter([b"id,x\n1,a\n"]), "Content-Length: 5000"), "complete"),
    "no length at all": (body(lambda: iter([b"id,x\n1,a\n"]), "Connection: close"), "how long"),
}  # fmt: skip


@pytest.mark.parametrize("name", cases(HTTP))
def test_a_hostile_server_is_refused(name: str, web: Web, refused: Refuse) -> None:
    answer, says = HTTP[name]
    web.answers["/rows.csv"] = answer
    fetch(web, refused, says)


def test_a_swelling_body_within_generous_caps_is_a_bomb(web: Web, refused: Refuse) -> None:
    web.answers["/rows.csv"] = body(swelling, "Content-Encoding: gzip", "Connection: close")
    fetch(web, refused, "swells", max_bytes=20 << 30, max_seconds=20, allow_unframed=True)


@pytest.mark.parametrize("deep", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_json_nested_deep_is_refused(deep: str, web: Web, refused: Refuse) -> None:
    web.gives("/rows.json", deep.encode())
    fetch(web, refused, "not JSON|nested|recursion", "/rows.json")


@pytest.mark.parametrize("paging", ["page", "offset", "cursor", "link"])
def test_pages_without_end_end(paging: str, web: Web, refused: Refuse) -> None:
    def answer(handler: Handler) -> None:
        page = len(web.seen)
        rows = [{"id": page * 1000 + i, "x": "a"} for i in range(100)]
        handler.give(json.dumps({"rows": rows, "next": page if paging == "cursor" else web.url(f"/rows.json?p={page}")}).encode())

    web.answers["/rows.json"] = answer
    extra = {"following": "next"} if paging in ("cursor", "link") else {}
    fetch(web, refused, "more than 5 pages", "/rows.json", paging=paging, records="rows", max_pages=5, **extra)
