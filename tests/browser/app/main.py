"""An app with two entries in the menu; their page is bundled from `tests/browser/frontend`."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.staticfiles import StaticFiles

from exapp_sdk import Access, ExApp

UI = "/apps/app_api/api/v1/ui"
FILES = Path(__file__).parent

app = ExApp()


@app.enabled
async def show_in_menu(enabled: bool) -> str:
    if enabled:
        entries = [("main", "Greeting", 0), ("admin", "For admins", 1)]
        for name, title, admin_required in entries:
            entry = {"name": name, "displayName": title, "icon": "img/app.svg"}
            await register("top-menu", **entry, adminRequired=admin_required)
            page = {"type": "top_menu", "name": name}
            state = {"words": ["Grüße", "</script>"], "title": title}
            await register("initial-state", **page, key="boot", value=state)
            await register("style", **page, path="css/main")
            await register("script", **page, path="js/first")
            await register("script", **page, path="js/main")
    return ""


async def register(what: str, **values: Any) -> None:
    await app.nextcloud.ocs("POST", f"{UI}/{what}", json=values)


async def greeting(request: Request) -> dict[str, Any]:
    given = await request.json() if request.method == "POST" else {}
    return {
        "user": request.user.identity,
        "given": given,
        "cookies": sorted(request.cookies),
    }


app.get("/api/greeting", access=Access.USER)(greeting)
app.post("/api/greeting", access=Access.USER)(greeting)
for folder in ("js", "css", "img"):
    app.mount(f"/{folder}", StaticFiles(directory=FILES / folder), access=Access.USER)

if __name__ == "__main__":
    app.run()
