"""An app for files as people write them today: FastAPI and nc_py_api, nothing of ours in it."""

import io
import json
import typing
from collections import Counter
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, responses
from nc_py_api import AsyncNextcloudApp
from nc_py_api.ex_app import AppAPIAuthMiddleware, anc_app, run_app, set_handlers
from nc_py_api.files import ActionFileInfoEx

Nc = typing.Annotated[AsyncNextcloudApp, Depends(anc_app)]


async def enabled_handler(enabled: bool, nc: AsyncNextcloudApp) -> str:
    if enabled:
        await nc.ui.files_dropdown_menu.register_ex(
            "count_words", "Count words", "/count_words", mime="text"
        )
    else:
        await nc.ui.files_dropdown_menu.unregister("count_words")
    return ""


@asynccontextmanager
async def lifespan(app: FastAPI) -> typing.AsyncIterator[None]:
    set_handlers(app, enabled_handler)
    yield


APP = FastAPI(lifespan=lifespan)
APP.add_middleware(AppAPIAuthMiddleware)


@APP.post("/count_words")
async def count_words(files: ActionFileInfoEx, nc: Nc) -> responses.Response:
    for info in files.files:
        node = info.to_fs_node()
        same = await nc.files.by_id(node.info.fileid)
        assert same is not None
        assert same == node, (same, node)
        text = io.BytesIO()
        await nc.files.download2stream(node, text)
        counted = Counter(text.getvalue().decode().split())
        result = json.dumps(dict(counted), sort_keys=True).encode()
        folder = f"{info.directory}/words".lstrip("/")
        await nc.files.makedirs(folder, exist_ok=True)
        path = f"{folder}/{info.name}.json"
        if info.size > 1000:
            written = await nc.files.upload_stream(path, io.BytesIO(result))
        else:
            written = await nc.files.upload(path, result)
        await nc.files.setfav(written, True)
    return responses.JSONResponse({"user": await nc.user})


if __name__ == "__main__":
    run_app(APP, log_level="warning")
