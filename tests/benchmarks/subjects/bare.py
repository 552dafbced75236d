"""Starlette and uvicorn alone, without any authentication: the floor."""

import os

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def heartbeat(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"hello": "world"})


app = Starlette(routes=[Route("/heartbeat", heartbeat), Route("/hello", hello)])

if __name__ == "__main__":
    uvicorn.run(
        app,
        host=os.environ["APP_HOST"],
        port=int(os.environ["APP_PORT"]),
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="warning",
    )
