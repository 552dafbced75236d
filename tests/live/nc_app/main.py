"""An ExApp as people write them today: FastAPI and nc_py_api, nothing of ours in it."""

import dataclasses
import io
import json
import os
import typing
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from nc_py_api import AsyncNextcloudApp
from nc_py_api.ex_app import (
    AppAPIAuthMiddleware,
    LogLvl,
    SettingsField,
    SettingsFieldType,
    SettingsForm,
    anc_app,
    atalk_bot_msg,
    persistent_storage,
    run_app,
    set_handlers,
)
from nc_py_api.ex_app.providers.task_processing import (
    ShapeDescriptor,
    ShapeType,
    TaskProcessingProvider,
    TaskType,
)
from nc_py_api.files import ActionFileInfoEx
from nc_py_api.talk_bot import AsyncTalkBot, TalkBotMessage

Nc = typing.Annotated[AsyncNextcloudApp, Depends(anc_app)]

BOT = AsyncTalkBot("/bot", "Echo", "Says it again")
FORM = SettingsForm(
    id="limits",
    section_type="admin",
    section_id="ai_integration_team",
    title="Limits",
    fields=[
        SettingsField(id="model", title="Model", type=SettingsFieldType.TEXT, default="small"),
        SettingsField(
            id="token", title="Token", type=SettingsFieldType.PASSWORD, default="", sensitive=True
        ),
    ],
)
PROVIDER = TaskProcessingProvider(
    id="nc_app:shout", name="Shouts", task_type="nc_app:shout", expected_runtime=1
)
TASK_TYPE = TaskType(
    id="nc_app:shout",
    name="Shout",
    description="Says it louder",
    input_shape=[
        ShapeDescriptor(name="input", description="What", shape_type=ShapeType.TEXT),
        ShapeDescriptor(name="sound", description="Sample", shape_type=ShapeType.FILE),
    ],
    output_shape=[
        ShapeDescriptor(name="output", description="Louder", shape_type=ShapeType.TEXT),
        ShapeDescriptor(name="sound", description="Louder", shape_type=ShapeType.FILE),
    ],
)
MODEL_URL = os.environ["NEXTCLOUD_URL"] + "/status.php"


async def enabled_handler(enabled: bool, nc: AsyncNextcloudApp) -> str:
    if enabled:
        await nc.ui.top_menu.register("main", "An app", "img/app.svg")
        await nc.ui.resources.set_initial_state("top_menu", "main", "boot", {"a": [1, {}]})
        await nc.ui.resources.set_script("top_menu", "main", "js/main")
        await nc.ui.resources.set_style("top_menu", "main", "css/main")
        await nc.ui.files_dropdown_menu.register_ex("to_gif", "To GIF", "/convert", mime="video")
        await nc.ui.settings.register_form(FORM)
        await nc.occ_commands.register(
            "nc_app:count",
            "/occ/count",
            arguments=[{"name": "to", "mode": "required", "description": "how far"}],
            description="Counts",
        )
        await nc.providers.task_processing.register(PROVIDER, TASK_TYPE)
        await nc.webhooks.register("POST", "/hook", "OCP\\Files\\Events\\Node\\NodeCreatedEvent")
    else:
        await nc.ui.top_menu.unregister("main")
    await BOT.enabled_handler(enabled, nc)
    return ""


async def trigger_handler(provider_id: str) -> None:
    """Empty the queue, as workers do when they are called."""
    nc = AsyncNextcloudApp()
    work = nc.providers.task_processing
    while found := await work.next_task([provider_id], [TASK_TYPE.id]):
        task = found["task"]
        await work.set_progress(task["id"], 50.0)
        if task["input"]["input"] == "fail":
            await work.report_result(task["id"], error_message="too quiet")
            continue
        # As real apps do it: nc_py_api has no method for files of tasks.
        sound = await nc._session.adapter.request(
            "GET",
            f"/ocs/v2.php/taskprocessing/tasks_provider/{task['id']}/file/{task['input']['sound']}",
        )
        content = sound.content
        number = await work.upload_result_file(task["id"], content * 2)
        await work.report_result(
            task["id"], {"output": task["input"]["input"].upper(), "sound": number}
        )


@asynccontextmanager
async def lifespan(app: FastAPI) -> typing.AsyncIterator[None]:
    set_handlers(
        app,
        enabled_handler,
        models_to_fetch={MODEL_URL: {"save_path": str(Path(persistent_storage(), "model"))}},
        trigger_handler=trigger_handler,
    )
    yield


APP = FastAPI(lifespan=lifespan)
APP.add_middleware(AppAPIAuthMiddleware)


@APP.post("/occ/count")
async def count(request: Request) -> StreamingResponse:
    last = int((await request.json())["occ"]["arguments"]["to"])
    return StreamingResponse(f"{number}\n" for number in range(1, last + 1))


@APP.post("/bot")
async def bot(
    message: typing.Annotated[TalkBotMessage, Depends(atalk_bot_msg)], tasks: BackgroundTasks
) -> dict[str, str]:
    tasks.add_task(answer, message)
    return {}


async def answer(message: TalkBotMessage) -> None:
    if message.object_name == "message":
        await BOT.react_to_message(message, "👍")
        await BOT.send_message(message.object_content["message"] * 2, message)


@APP.post("/convert")
async def convert(selected: ActionFileInfoEx, nc: Nc) -> dict[str, str]:
    """Write a file beside each of those that somebody clicked on."""
    for info in selected.files:
        node = info.to_fs_node()
        content = await nc.files.download(node)
        await nc.files.upload(f"{node.user_path}.gif", b"GIF of " + content)
    return {"redirect_handler": "main"}


HEARD: list[typing.Any] = []


@APP.post("/hook")
async def hook(request: Request, nc: Nc) -> dict[str, str]:
    HEARD.append({"as": await nc.user, **json.loads(await request.body())})
    return {}


@APP.get("/heard")
async def heard() -> list[typing.Any]:
    return HEARD


@APP.get("/settings")
async def settings(nc: Nc) -> dict[str, typing.Any]:
    records = await nc.appconfig_ex.get_values(["model", "token"])
    return {record.key: record.value for record in records}


async def work_with_files(nc: AsyncNextcloudApp) -> dict[str, typing.Any]:
    files = nc.files
    await files.makedirs("Work/Deep", exist_ok=True)
    node = await files.upload("Work/a.txt", "alpha")
    await files.upload_stream("Work/Deep/b.bin", io.BytesIO(b"b" * 300_000), chunk_size=100_000)
    await files.copy("Work/a.txt", "Work/c.txt")
    await files.move("Work/c.txt", "Work/Deep/d.txt")
    await files.setfav("Work/a.txt", 1)
    found = {
        "download": (await files.download(node)).decode(),
        "sizes": {
            one.user_path: one.info.content_length
            for one in await files.listdir("Work", depth=-1)
            if not one.is_dir
        },
        "by_id": (await files.by_id(node)).user_path,
        "found": [one.name for one in await files.find(["like", "name", "%.bin"])],
        "favorites": [one.name for one in await files.list_by_criteria(["favorite"])],
    }
    await files.delete("Work")
    found["trash"] = [one.info.trashbin_filename for one in await files.trashbin_list()]
    await files.trashbin_cleanup()
    return found


@APP.post("/exercise")
async def exercise(nc: Nc) -> dict[str, typing.Any]:
    """Ask the host everything, in the name of who asked us."""
    found: dict[str, typing.Any] = {"user": await nc.user, "version": await nc.srv_version}
    found["users"] = await nc.users_list()
    found["enabled"] = await nc.enabled_state
    await nc.log(LogLvl.WARNING, "as if by chance")

    await nc.appconfig_ex.set_value("key", "v", sensitive=True)
    await nc.appconfig_ex.set_value("other", "w")
    await nc.preferences_ex.set_value("key", "mine")
    found["config"] = {
        record.key: record.value for record in await nc.appconfig_ex.get_values(["other", "key"])
    }
    found["preference"] = await nc.preferences_ex.get_value("key")
    await nc.appconfig_ex.delete(["other", "none"])
    found["deleted"] = await nc.appconfig_ex.get_value("other", "gone")
    await nc.preferences.set_value("theming", "background", "blue")

    number = await nc.notifications.create("{who} did it", subject_params=WHO, message="well")
    shown = await nc.notifications.by_object_id(number)
    found["notification"] = (shown.subject, shown.message, shown.user_id)
    found["exists"] = await nc.notifications.exists([shown.notification_id, 999])
    await nc.notifications.delete_all()
    found["notifications"] = len(await nc.notifications.get_all())

    menu = await nc.ui.top_menu.get_entry("main")
    found["menu"] = (menu.appid, menu.display_name, menu.icon)
    state = await nc.ui.resources.get_initial_state("top_menu", "main", "boot")
    found["state"] = state.value
    action = await nc.ui.files_dropdown_menu.get_entry("to_gif")
    found["action"] = (action.action_handler, action.mime, action.version)
    found["form"] = (await nc.ui.settings.get_entry("limits")).to_dict() == {**FORM.to_dict()}
    found["command"] = (await nc.occ_commands.get_entry("nc_app:count")).arguments
    found["webhooks"] = [hook.uri for hook in await nc.webhooks.get_list()]

    me = await nc.users.get_user()
    found["me"] = (me.user_id, me.groups)
    found["groups"] = await nc.users_groups.get_list()
    await nc.user_status.set_status_type("dnd")
    await nc.user_status.set_predefined("meeting")
    status = await nc.user_status.get_current()
    found["status"] = (status.status_type, status.status_message, status.message_predefined)
    found["theme"] = (await nc.theme)["name"]
    found["files"] = await work_with_files(nc)
    model = Path(persistent_storage(), "model").read_text()  # noqa: ASYNC240
    found["model"] = json.loads(model)["productname"]
    return {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
        for name, value in found.items()
    }


WHO = {"who": {"type": "user", "id": "user", "name": "User"}}

if __name__ == "__main__":
    run_app(APP, log_level="warning")
