"""A seal on a folder: what lies in it, for which model, said by somebody who holds this server's key.

The ledger's digest covers the model's files and not what is compiled from them, so a compiled form is believed only under a
seal: sha256 of each file, the model's digest, and an HMAC over both. The key lies beside the store, for this user's eyes only;
whoever can write to the store alone (a shared volume, a restored copy) can take a form away and not put another in its place.
Whoever reads the key is this user, who could replace this program as well.
"""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

import msgspec

from zebra_serving.files import locked

SEAL_FILE = "seal.json"
MAX_BYTES = 512 * 1024 * 1024
_WORD = b"zebra-compiled-v1\0"


class Seal(msgspec.Struct, frozen=True):
    """What lies in a folder. ``mac`` is over the others."""

    model_digest: str
    files: dict[str, str]
    mac: str = ""


def key_at(path: Path) -> bytes:
    """The key that lies at ``path``, made when there is none.

    A file that others can read or write is no secret: it is replaced, and what was sealed with it is compiled anew.
    """
    found = _private(path)
    if found is None:
        with locked(path.with_name(f".{path.name}.lock")):  # or who comes second takes the first one's key away for a bad one
            found = _private(path) or _new(path)
    if found is None:
        raise OSError(f"{path} is not this user's own file")
    return found


def seal(folder: Path, model_digest: str, key: bytes) -> None:
    """Seal what lies in ``folder`` now."""
    unsigned = Seal(model_digest, {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()})
    (folder / SEAL_FILE).write_bytes(msgspec.json.encode(msgspec.structs.replace(unsigned, mac=_mac(unsigned, key))))


def unsealed(folder: Path, model_digest: str, key: bytes) -> dict[str, bytes] | None:
    """The files of a sealed folder, read once; None when anything in it is not as it was sealed, or for another model."""
    try:
        if folder.is_symlink():
            return None
        files = {p.name: _read(p) for p in folder.iterdir()}
        said = msgspec.json.decode(files.pop(SEAL_FILE), type=Seal)
    except (OSError, KeyError, ValueError, msgspec.DecodeError):
        return None
    found = Seal(model_digest, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    true = hmac.compare_digest(_mac(found, key).encode(), said.mac.encode())
    return files if true and (said.model_digest, said.files) == (found.model_digest, found.files) else None


def _mac(seal: Seal, key: bytes) -> str:
    said = msgspec.json.encode([seal.model_digest, sorted(seal.files.items())])
    return hmac.new(key, _WORD + said, hashlib.sha256).hexdigest()


def _new(path: Path) -> bytes | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(scratch, path)  # two servers that start together keep the first one's
    except FileExistsError:
        pass
    finally:
        scratch.unlink()
    return _private(path)


def _private(path: Path) -> bytes | None:
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(opened, "rb") as file:
        about = os.fstat(file.fileno())
        mine = about.st_uid == os.geteuid() and not about.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        key = file.read(33)
        return key if mine and stat.S_ISREG(about.st_mode) and len(key) == 32 else None


def _read(path: Path) -> bytes:
    """A plain file's bytes. Raises `OSError` for a link, a folder, a pipe, or more than a form can be."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_BYTES:
            raise OSError(f"{path} is no plain file of a compiled form")
        return file.read()
