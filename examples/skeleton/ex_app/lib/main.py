"""A book of fables that users can search: the ExApp to copy and make your own."""

import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import anyio
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from exapp_sdk import Access, ExApp, Progress

FILES = Path(__file__).resolve().parents[1]

app = ExApp()


def query(sql: str, *values: object) -> list[tuple[str, ...]]:
    """Run one statement on the index, which survives updates; workers share it as a file."""
    folder = app.settings.persistent_storage or Path(tempfile.gettempdir())
    with closing(sqlite3.connect(folder / "fables.sqlite3")) as database, database:
        return database.execute(sql, values).fetchall()


def search(words: str) -> dict[str, object]:
    """Find the fables in which every word begins a word of the text."""
    terms = " ".join(f'"{word}"*' for word in re.findall(r"\w+", words)) or '""'
    found = query("SELECT title, text FROM fable WHERE fable MATCH ? ORDER BY rank", terms)
    return {"words": words, "found": [{"title": title, "text": text} for title, text in found]}


@app.init
async def build_index(progress: Progress) -> None:
    """Prepare once, after installation and after each update; reports move the progress bar."""
    text = await anyio.Path(FILES, "data", "fables.txt").read_text(encoding="utf-8")
    book = text.strip().split("\n\n")
    await anyio.to_thread.run_sync(query, "DROP TABLE IF EXISTS fable")
    await anyio.to_thread.run_sync(query, "CREATE VIRTUAL TABLE fable USING fts5(title, text)")
    for number, fable in enumerate(book):
        await progress.set(100 * number // len(book))
        title_and_text = fable.split("\n", 1)
        await anyio.to_thread.run_sync(query, "INSERT INTO fable VALUES (?, ?)", *title_and_text)


@app.get("/api/about", access=Access.PUBLIC)
def about(request: Request) -> dict[str, object]:
    return {"name": app.settings.app_display_name, "version": app.settings.app_version}


@app.get("/api/search", access=Access.USER)
def search_for_user(request: Request) -> dict[str, object]:
    return {"user": request.user.identity, **search(request.query_params.get("q", ""))}


@app.get("/api/index", access=Access.ADMIN)
def describe_index(request: Request) -> dict[str, object]:
    return {"titles": [title for (title,) in query("SELECT title FROM fable ORDER BY rowid")]}


@app.get("/page", access=Access.USER)
async def page(request: Request) -> FileResponse:
    return FileResponse(FILES / "page" / "index.html")


@app.websocket("/live", access=Access.USER)
async def search_while_typing(socket: WebSocket) -> None:
    await socket.accept()
    async for words in socket.iter_text():
        await socket.send_json(await anyio.to_thread.run_sync(search, words))


app.mount("/static", StaticFiles(directory=FILES / "page"), access=Access.USER)

if __name__ == "__main__":
    app.run()
