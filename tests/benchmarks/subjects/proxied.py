"""The app behind the proxies that are compared: small answers, and streams of any length.

Usage: `python proxied.py PORT`. Answers `GET /small`, `GET /down?BYTES` and `PUT /up`.
"""

import sys
from typing import Any

import uvicorn

BLOCK = bytes(256 * 1024)
SMALL = b'{"hello": "world", "number": 17}'


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body, left = SMALL, 0
    if scope["path"] == "/down":
        body, left = b"", int(scope["query_string"])
    elif scope["path"] == "/up":
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        body = b"%d" % size
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"content-length", b"%d" % (left or len(body))),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while left:
        block = BLOCK if left >= len(BLOCK) else BLOCK[:left]
        await send({"type": "http.response.body", "body": block, "more_body": True})
        left -= len(block)
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="warning",
        lifespan="off",
    )
