"""uvicorn's HTTP connection with limits on clients that send too much head, or too little of anything.

httptools keeps headers without end and waits for them for ever; so does uvicorn for a body. Here a head may have 64 KiB and take
10 s, a body may rest for 30 s and take 300 s, and what follows a chunked body (trailers) may have 64 KiB, too. Looked at once a second
for all connections, so a request pays for no timer.
"""

from typing import Any, ClassVar
from weakref import WeakSet

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

HEAD_BYTES = 64 * 1024
HEAD_S, REST_S, BODY_S = 10.0, 30.0, 300.0
LOOK_S = 1.0
# Connections and requests at once; what more of them ask is refused. Below the 1,024 files that a process may open by default.
MOST = 900
# Set in the scope of a request that came beyond that. `guard` refuses it: in JSON, counted and logged like every other.
CROWDED = "zebra.crowded"

_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connection(HttpToolsProtocol):
    """One client."""

    _watched: ClassVar[WeakSet[ServerState]] = WeakSet()
    _head = True  # its end has not been seen
    _idle_bytes = 0  # since the last that were a request's beginning or its body's: of a head, of trailers, of a chunk's name
    _began: float | None = None  # when what is being read began; None while nothing is expected
    _heard = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._began = self._heard = self.loop.time()
        if self.server_state not in self._watched:
            self._watched.add(self.server_state)
            self.loop.call_later(LOOK_S, self._look)

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        if self._began is None and (self.cycle is None or self.cycle.response_complete):
            self._began = self._heard  # an empty line, too, which ends uvicorn's own patience and begins no request
        self._idle_bytes += len(data)
        super().data_received(data)
        # One chunk holds at most what the socket gave at once; a head that is still open after this much is no head.
        if self._idle_bytes > HEAD_BYTES:
            self._end(_LONG if self._head else b"")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head, self._idle_bytes, self._began = True, 0, self._heard

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """httptools saw how long the next piece of a body is; trailers follow the last one."""
        self._idle_bytes = 0

    def on_headers_complete(self) -> None:
        self._head = False
        if len(self.connections) > MOST or len(self.tasks) > MOST:
            self.scope[CROWDED] = True  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._head, self._idle_bytes, self._began = True, 0, None
        super().on_message_complete()

    def _look(self) -> None:
        """End the connections that keep us waiting; looked again while there are any."""
        moment = self.loop.time()
        for one in list(self.connections):
            if isinstance(one, Connection) and one._keeps_waiting(moment):
                one._end(_SLOW if one._head else b"")
        if self.connections:
            self.loop.call_later(LOOK_S, self._look)
        else:
            self._watched.discard(self.server_state)

    def _keeps_waiting(self, moment: float) -> bool:
        if self._began is None or self.flow.read_paused:
            return False
        if self._head:
            return moment - self._began > HEAD_S
        return moment - self._heard > REST_S or moment - self._began > BODY_S

    def _end(self, said: bytes) -> None:
        if not self.transport.is_closing():
            if said and (self.cycle is None or self.cycle.response_complete):
                self.transport.write(said)
            self.transport.close()
