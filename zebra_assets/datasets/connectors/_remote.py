"""Objects in a bucket or on a file server, by fsspec URL: listed, and fetched one after the other into scratch.

Credentials come from each service's own chain, an S3 server that is not AWS from ZEBRA_S3_ENDPOINT_URL; other options of
a filesystem are the deployment's to set (``FSSPEC_<SCHEME>_<OPTION>``), never a recipe's, because an endpoint is an
address to send requests to. For the same reason schemes that fetch web addresses are left to the http connector.
Called by `files`.
"""

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zebra_assets.contracts.digest import digest_of
from zebra_assets.datasets.connector import fill_secrets
from zebra_assets.datasets.connectors._place import Entry
from zebra_assets.datasets.connectors._unpack import Caps, keep
from zebra_assets.errors import DataInvalid, NotFound, Refused, SpecInvalid, Unavailable, ZebraError, did_you_mean

log = logging.getLogger(__name__)
CHUNK = 8 << 20
ENDPOINT = "ZEBRA_S3_ENDPOINT_URL"
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):(?://|:)|::")
_WEB = frozenset({"http", "https", "ftp", "ftps", "webdav", "webdavs", "webhdfs", "github", "gist", "hf", "jupyter", "jlab", "dbfs"})
# Wrappers around other filesystems, and what lies in this process or on this machine.
_INNER = frozenset({"generic", "reference", "data", "pyscript", "git", "dvc", "dir", "tar", "zip", "libarchive", "dask", "memory"}) | {
    *("cached", "blockcache", "filecache", "simplecache", "async_wrapper", "asyncwrapper", "asynclocal", "arrow_hdfs")
}
_S3 = frozenset({"s3", "s3a"})
_EXTRA = {"gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure", "adl": "azure", "sftp": "remote", "ssh": "remote"}
_ANONYMOUS: dict[str, dict[str, Any]] = {"gs": {"token": "anon"}, "gcs": {"token": "anon"}}
# What tells two versions of one object apart, the surest first.
_VERSIONS = ("VersionId", "version_id", "generation", "ETag", "etag", "md5Hash", "content_md5", "mtime", "last_modified", "LastModified")


def scheme_of(path: str) -> str | None:
    """The scheme of a URL, lower case; '' for a chain of filesystems (``a::b``); None for a plain path."""
    found = _SCHEME.search(path)
    return None if found is None else "" if "::" in path else found[1].lower()


class Remote:
    """The objects that a URL or a glob below it names."""

    def __init__(self, url: str, secrets: Mapping[str, str], *, anonymous: bool = False) -> None:
        self.scheme = _allowed(url)
        self.where = re.sub(r"//[^/?#]*@", "//***@", url) if self.scheme not in ("abfs", "abfss", "az") else url
        self.url = fill_secrets(url, secrets)
        self._endpoint, self._anonymous = secrets.get(ENDPOINT) or None, anonymous
        self._opened: Any = None

    def entries(self) -> list[Entry]:
        """The objects that are there now, in name order; hidden ones are passed over.

        Raises:
            NotFound: there is none.
            Unavailable: the server cannot be asked.
        """
        with self._reachable():
            fs, path = self._open()
            fs.invalidate_cache()
            if any(mark in path for mark in "*?["):
                found = list(fs.glob(path, detail=True).values())
            else:
                found = [fs.info(path)] if fs.isfile(path) else []
        objects = [self._object(o) for o in found if o["type"] == "file" and not o["name"].rsplit("/", 1)[-1].startswith(".")]
        if not objects:
            raise NotFound(f"No object matches {self.where}.", fix=f"put the data at {self.where}, or correct source.path")
        return sorted(objects, key=lambda o: o.name)

    def fetch(self, entry: Entry, folder: Path, caps: Caps) -> Path:
        """The object's bytes in a file of its name below ``folder``, 8 MiB in memory at a time.

        Raises:
            DataInvalid: another number of bytes than listed, or more than ``caps`` allow.
            Unavailable: the server broke off, or there is no room.
        """
        target = folder / entry.name.rsplit("/", 1)[-1]
        caps.spend(entry.size, entry.size, entry.size, entry.name)
        with target.open("wb") as out:
            for piece in self._pieces(entry):
                keep(out.write, piece, entry.name)
        if target.stat().st_size != entry.size:
            raise DataInvalid(f"{entry.name} changed while it was read; nothing was committed.", fix="run the ingest again")
        return target

    def revision(self, entries: list[Entry], stop: threading.Event) -> str | None:
        """Digest of the objects' names, sizes and versions; None where the server tells no versions. Reads no bytes."""
        if any(e.version is None for e in entries):
            return None
        return digest_of([[e.name, e.size, e.version] for e in entries])

    def _pieces(self, entry: Entry) -> Iterator[bytes]:
        with self._reachable():
            fs, _ = self._open()
            with fs.open(entry.path, "rb", block_size=CHUNK, cache_type="readahead") as source:
                while piece := source.read(CHUNK):
                    yield piece

    def _object(self, info: dict[str, Any]) -> Entry:
        version = next((str(info[v]) for v in _VERSIONS if info.get(v) is not None), None)
        return Entry(f"{self.scheme}://{info['name']}", int(info["size"] or 0), version, info["name"])

    def _open(self) -> Any:
        if self._opened is None:
            from fsspec.core import url_to_fs

            try:
                self._opened = url_to_fs(self.url, **self._options())
            except ImportError as error:
                extra = _EXTRA.get(self.scheme)
                fix = f"pip install 'zebraops[{extra}]'" if extra else "install the package that the message names"
                raise SpecInvalid(f"source.path {self.where}: {error}", fix=fix) from error
        return self._opened

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if self._anonymous:
            options |= _ANONYMOUS.get(self.scheme, {"anon": True})
        if self.scheme in _S3:
            options["config_kwargs"] = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 3, "mode": "standard"}}
            # Also None: AWS_ENDPOINT_URL then counts, as it does for the object store.
            options["endpoint_url"] = self._endpoint
        return options

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """Each filesystem has exceptions of its own, with no base in common; what they say is passed on."""
        try:
            yield
        except (ZebraError, GeneratorExit):
            raise
        except FileNotFoundError as error:
            raise NotFound(f"{self.where} is not there: {error}", fix="correct source.path, or create the bucket") from error
        except Exception as error:
            said = f"{self.where} cannot be read: {type(error).__name__}: {error}"
            place = f" at {self._endpoint}" if self.scheme in _S3 and self._endpoint else ""
            raise Unavailable(said + place, fix=f"check the credentials, {ENDPOINT} and that the server runs") from error


def _allowed(url: str) -> str:
    """The URL's scheme, if rows may be read through it."""
    from fsspec import available_protocols

    scheme = scheme_of(url)
    if not scheme or scheme in _INNER:
        raise Refused(f"source.path {url!r} wraps one filesystem in another.", fix="name the file itself: s3://bucket/rows.csv.gz")
    if scheme in _WEB:
        raise Refused(
            f"source.path {scheme}:// leads around the checks of web addresses.",
            fix="connector: http\n  url: https://example.org/rows.csv",
        )
    if scheme in ("file", "local"):
        raise SpecInvalid(f"source.path is a {scheme}:// URL.", fix="path: /data/rows.csv")
    known = [p for p in available_protocols() if p not in _WEB | _INNER]
    if scheme not in known:
        raise SpecInvalid(f"source.path: no filesystem is called {scheme!r}.{did_you_mean(scheme, known)}", fix="path: s3://bucket/*.csv")
    return scheme
