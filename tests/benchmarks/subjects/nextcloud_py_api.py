"""nc_py_api with its authentication middleware, as its own skeleton uses it."""

from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from nc_py_api.ex_app import AppAPIAuthMiddleware, run_app, set_handlers
from starlette.responses import JSONResponse


async def enabled_handler(enabled: bool, nextcloud: Any) -> str:
    return ""


@asynccontextmanager
async def lifespan(app: FastAPI) -> Any:
    set_handlers(app, enabled_handler)
    yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(AppAPIAuthMiddleware)


@app.get("/hello")
async def hello() -> JSONResponse:
    return JSONResponse({"hello": "world"})


if __name__ == "__main__":
    run_app(app, http="httptools", loop="uvloop", access_log=False, log_level="warning")
