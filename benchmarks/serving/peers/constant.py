"""The limit: an ASGI application that reads the body and answers a constant. `constant.py PORT`."""

import sys

import uvicorn

ANSWER = b'{"predictions":[{"prediction":"No","score":0.5,"event_id":null}]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    """Answer."""
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning", lifespan="off"
    )
