"""The limit: an ASGI application that decodes, predicts with the compiled form and answers. `compiled.py FOLDER DIGEST STORE PORT`.

No host check, request id, metrics, capture, problems as JSON, batching or reload: what those cost is the distance to this.
"""

import sys
from pathlib import Path

import msgspec
import uvicorn

from zebra_serving.compile.workshop import Workshop

folder, digest, store, port = sys.argv[1:]
made = Workshop(Path(store)).open(Path(folder), digest)
encode = msgspec.json.Encoder().encode


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    """Answer."""
    if scope["type"] != "http":
        return
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    scored = made.model.predict(made.schema.decode(body))
    scores = scored.scores or [None] * len(scored.labels)
    answer = encode({"predictions": [{"prediction": label, "score": s} for label, s in zip(scored.labels, scores, strict=True)]})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="warning", lifespan="off"
    )
