"""What the two processes say to each other: frames of one letter and some bytes over a socket.

child:  R what fences it in            ready         | X words           the model does not open, and the child ends
parent: Arrow stream of rows           a question
child:  A {"labels": [], "scores": []} the answer    | V words           the values are refused | F words  it failed
"""

import socket
import struct

READY, UNOPENED, ANSWER, REFUSED, FAILED, ROWS = b"R", b"X", b"A", b"V", b"F", b"Q"
MAX_BYTES = 256 * 1024 * 1024
_HEAD = struct.Struct(">cQ")


def send(channel: socket.socket, kind: bytes, payload: bytes) -> None:
    """Send one frame. Raises `OSError`, of which `TimeoutError` is one."""
    channel.sendall(_HEAD.pack(kind, len(payload)))
    channel.sendall(payload)


def receive(channel: socket.socket) -> tuple[bytes, bytes]:
    """The next frame: kind and payload.

    Raises:
        EOFError: the other end is gone.
        OSError: no frame came in time (`TimeoutError`), or one that nobody may send.
    """
    kind, size = _HEAD.unpack(_exactly(channel, _HEAD.size))
    if size > MAX_BYTES:
        raise OSError(f"a frame of {size:,} bytes")
    return kind, _exactly(channel, size)


def _exactly(channel: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = channel.recv(min(size - len(found), 1 << 20))
        if not part:
            raise EOFError("the other end is gone")
        found += part
    return bytes(found)
