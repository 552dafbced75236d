"""The way back for apps in networks of their own, with other loopback addresses as gateways."""

import errno
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest

from appapi_host.app_client import memory_transport
from appapi_host.asgi import bind
from appapi_host.errors import HostError
from appapi_host.events import Event, EventBus, Exchange, Notice
from appapi_host.gateways import Gateways, SignedOnly, serve_host
from appapi_host.host import Host
from appapi_host.info_xml import AppInfo
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.auth import Credentials, Secret
from tests.host.stub_app import StubApp, StubBackend

pytestmark = pytest.mark.live

GATEWAY = "127.0.0.2"
STATE = "/ocs/v1.php/apps/app_api/ex-app/state?format=json"
CAPABILITIES = "/ocs/v1.php/cloud/capabilities"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class NetworkedBackend(StubBackend):
    """A stub whose daemons have the gateways that they are named after."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.gateway_error = ""

    async def gateway(self, daemon: Daemon) -> str:
        self.asked.append(daemon.name)
        if self.gateway_error:
            raise HostError(self.gateway_error)
        return str(daemon.deploy_config.get("gateway", ""))


@dataclass
class Stage:
    host: Host
    backend: NetworkedBackend
    events: list[Event]
    port: int

    @property
    def notices(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]

    @property
    def gateways(self) -> list[str]:
        assert isinstance(self.host.way_back, Gateways)
        return self.host.way_back.addresses

    async def add(self, app_id: str, gateway: str = GATEWAY) -> AppRecord:
        if await self.host.registry.daemon(gateway or "none") is None:
            await self.host.register_daemon(self.daemon(gateway))
        info = AppInfo(id=app_id, name=app_id, version="1.0.0", secret=Secret("s3cret"))
        return await self.host.register(info, daemon=gateway or "none")

    def daemon(self, gateway: str, url: str = "") -> Daemon:
        config = {"gateway": gateway, "nextcloud_url": url or f"http://127.0.0.1:{self.port}"}
        return Daemon(gateway or "none", "", "stub-install", "http", "h", config)

    async def ask(
        self,
        target: str = STATE,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        at: str = GATEWAY,
    ) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            return await client.request(method, f"http://{at}:{self.port}{target}", headers=headers)

    async def until_said(self, text: str) -> None:
        with anyio.fail_after(20):
            while not any(text in notice for notice in self.notices):
                await self.next_event()

    async def next_event(self) -> None:
        happened = anyio.Event()
        with self.host.bus.subscribed(lambda _: happened.set()):
            await happened.wait()


def signed(app_id: str = "notes", secret: str = "s3cret", user_id: str = "") -> dict[str, str]:
    credentials = Credentials(app_id, "1.0.0", Secret(secret), user_id)
    return dict(credentials.headers(aa_version="32.0.0"))


@asynccontextmanager
async def served(
    data_dir: Path | None = None,
    *,
    bound: str = "127.0.0.1",
    backend: NetworkedBackend | None = None,
) -> AsyncIterator[Stage]:
    listener = bind(bound, 0)
    port = listener.getsockname()[1]
    settings = HostSettings(data_dir=data_dir, port=port)
    app, backend, bus = StubApp(), backend or NetworkedBackend(), EventBus()
    app.answer("/init", 404)
    events: list[Event] = []
    with anyio.fail_after(20):
        async with Host.open(
            settings,
            bus=bus,
            backends={"stub-install": backend},
            transport_for=lambda _: memory_transport(app),
        ) as host:
            await host.users.create_defaults(loopback=True)
            with bus.subscribed(events.append):
                async with anyio.create_task_group() as group:
                    await group.start(partial(serve_host, host, sockets=[listener]))
                    yield Stage(host, backend, events, port)
                    group.cancel_scope.cancel()


async def test_host_listens_on_the_gateway_while_an_app_needs_it() -> None:
    async with served() as s:
        with pytest.raises(httpx.ConnectError):
            await s.ask()
        await s.add("notes")
        assert s.gateways == [GATEWAY]
        assert s.backend.environment["NEXTCLOUD_URL"] == f"http://{GATEWAY}:{s.port}"
        assert (
            f"the host listens on {GATEWAY} port {s.port} as well, for the apps of the daemon "
            f"{GATEWAY}; only what an app has signed is accepted there" in s.notices
        )
        answer = await s.ask(headers=signed())
        assert (answer.status_code, answer.json()["ocs"]["data"]) == (200, 1)
        await s.host.unregister("notes")
        await s.until_said(f"the host listens on {GATEWAY} no longer")
        assert s.gateways == []
        with pytest.raises(httpx.ConnectError):
            await s.ask(headers=signed())


async def test_gateway_is_kept_until_the_last_app_is_gone() -> None:
    async with served() as s:
        await s.add("notes")
        await s.add("other")
        await s.host.unregister("notes")
        assert (await s.ask(headers=signed("other"))).status_code == 200
        await s.host.unregister("other")
        await s.until_said("no longer")
        await s.add("notes")
        assert (await s.ask(headers=signed())).status_code == 200


async def test_each_network_has_its_gateway() -> None:
    async with served() as s:
        await s.add("notes")
        await s.add("other", "127.0.0.3")
        await s.add("third", "")
        assert s.gateways == [GATEWAY, "127.0.0.3"]
        assert s.backend.environment["NEXTCLOUD_URL"] == f"http://127.0.0.1:{s.port}"
        await s.host.unregister("notes")
        await s.until_said(f"{GATEWAY} no longer")
        assert s.gateways == ["127.0.0.3"]


@pytest.mark.parametrize("target", ["/", "/login", "/status.php", STATE, CAPABILITIES, "/nope"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
        signed(secret="wrong"),
        signed("stranger"),
        signed(secret="wrong", user_id="admin") | {"Authorization": "Basic YWRtaW46YWRtaW4="},
        {"AUTHORIZATION-APP-API": "%%%"},
        {name: value for name, value in signed().items() if name != "EX-APP-ID"},
        signed(user_id="nobody_of_that_name"),
    ],
    ids=["none", "password", "secret", "unknown", "both", "junk", "no_id", "no_user"],
)
async def test_nothing_without_the_signature_of_an_app_gets_through(
    target: str, headers: Mapping[str, str]
) -> None:
    async with served() as s:
        await s.add("notes")
        answer = await s.ask(target, headers)
        assert (answer.status_code, answer.content) == (403, b"")
        assert answer.headers["connection"] == "close"
        (refused,) = [e for e in s.events if isinstance(e, Exchange) and e.status == 403]
        assert refused.target == target
        assert refused.note.startswith("refused at the gateway: ")


async def test_signature_opens_the_files_of_who_is_acted_for() -> None:
    async with served() as s:
        await s.add("notes")
        await s.host.files.put("user", "a.txt", "hello")
        target = "/remote.php/dav/files/user/a.txt"
        assert (await s.ask(target, signed(user_id="user"))).text == "hello"
        assert (await s.ask(target, signed(user_id="admin"))).status_code == 404
        assert (await s.ask(target, signed())).status_code == 401
        basic = {"Authorization": "Basic dXNlcjp1c2Vy"}
        assert (await s.ask(target, basic)).status_code == 403
        assert (await s.ask(target, basic, at="127.0.0.1")).text == "hello"


async def test_signature_opens_the_ocs_api_and_no_page() -> None:
    async with served() as s:
        await s.add("notes")
        headers = signed(user_id="admin")
        assert (await s.ask(CAPABILITIES, headers)).status_code == 200
        for target in ("/", "/login", "/index.php/apps/app_api/proxy/notes/"):
            answer = await s.ask(target, headers)
            assert "<statuscode>998</statuscode>" in answer.text  # no such route
        assert (await s.ask("/", at="127.0.0.1")).status_code == 200


async def test_disabled_app_may_still_ask_what_disabled_apps_may_ask() -> None:
    async with served() as s:
        await s.add("notes")
        await s.host.disable("notes")
        answer = await s.ask(headers=signed())
        assert (answer.status_code, answer.json()["ocs"]["data"]) == (200, 0)
        users = "/ocs/v2.php/apps/app_api/api/v1/users"
        assert (await s.ask(users, signed(user_id="admin"))).status_code == 401


async def test_websockets_and_big_bodies_are_refused_too() -> None:
    async with served() as s:
        await s.add("notes")
        async with await anyio.connect_tcp(GATEWAY, s.port) as stream:
            await stream.send(
                b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert (await stream.receive()).startswith(b"HTTP/1.1 403 ")
        async with await anyio.connect_tcp(GATEWAY, s.port) as stream:
            await stream.send(
                b"POST /ocs/v1.php/x HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999\r\n\r\n"
            )
            assert (await stream.receive()).startswith(b"HTTP/1.1 403 ")


async def test_websockets_end_before_they_are_accepted_by_whatever_server() -> None:
    async with served() as s:
        sent: list[object] = []

        async def send(message: object) -> None:
            sent.append(message)

        async def nothing(*_: object) -> None:
            raise AssertionError

        await SignedOnly(s.host, nothing)({"type": "websocket"}, nothing, send)  # type: ignore[arg-type]
        assert sent == [{"type": "websocket.close"}]


async def test_url_that_is_valid_anywhere_is_passed_on_as_it_is() -> None:
    async with served() as s:
        await s.host.register_daemon(s.daemon(GATEWAY, "https://cloud.test/index.php"))
        await s.add("notes")
        assert s.backend.environment["NEXTCLOUD_URL"] == "https://cloud.test/index.php"
        assert (s.gateways, s.backend.asked) == ([], [])


async def test_host_that_listens_everywhere_needs_no_second_listener() -> None:
    async with served(bound="0.0.0.0") as s:
        await s.add("notes")
        assert s.gateways == []
        assert s.backend.environment["NEXTCLOUD_URL"] == f"http://{GATEWAY}:{s.port}"
        assert (await s.ask(headers=signed())).status_code == 200


async def test_port_that_is_taken_on_the_gateway_ends_the_registration() -> None:
    async with served() as s:
        with bind(GATEWAY, s.port), pytest.raises(HostError, match="in use") as caught:
            await s.add("notes")
        assert "--port" in caught.value.remedy
        assert await s.host.registry.apps() == []
        assert s.backend.calls == []


async def test_address_that_is_not_there_yet_is_listened_on_already() -> None:
    async with served() as s:
        await s.add("notes", "203.0.113.7")
        assert s.gateways == ["203.0.113.7"]
    with pytest.raises(HostError) as caught:
        bind("203.0.113.7", 0)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EADDRNOTAVAIL


async def test_host_that_starts_again_listens_before_it_is_ready(tmp_path: Path) -> None:
    async with served(tmp_path) as s:
        await s.add("notes")
    with pytest.raises(httpx.ConnectError):
        await s.ask()
    async with served(tmp_path) as again:
        assert again.gateways == [GATEWAY]


async def test_engine_that_does_not_answer_at_the_start_is_said_once(tmp_path: Path) -> None:
    async with served(tmp_path) as s:
        await s.add("notes")
    backend = NetworkedBackend()
    backend.gateway_error = "no engine"
    async with served(tmp_path, backend=backend) as again:
        text = f"apps of the daemon {GATEWAY} cannot call the host: no engine"
        await again.host.registry.set_setting("any", "thing")
        with anyio.fail_after(20):
            while len(backend.asked) < 2:
                await anyio.lowlevel.checkpoint()
        assert again.notices.count(text) == 1
        backend.gateway_error = ""
        await again.host.registry.set_setting("any", "other")
        await again.until_said("as well")
        assert again.gateways == [GATEWAY]


async def test_app_that_another_process_registers_finds_the_gateway_open(tmp_path: Path) -> None:
    async with served(tmp_path) as s:
        await s.host.register_daemon(s.daemon(GATEWAY))
        app = StubApp()
        app.answer("/init", 404)
        settings = replace(s.host.settings)
        reached: list[bool] = []

        class Watching(NetworkedBackend):
            async def deploy(self, deployment: object, report: object) -> dict[str, object]:
                reached.append((await s.ask(headers=signed())).status_code == 200)
                return {}

        async with Host.open(
            settings,
            backends={"stub-install": Watching()},
            transport_for=lambda _: memory_transport(app),
        ) as other:
            info = AppInfo(id="notes", name="Notes", version="1", secret=Secret("s3cret"))
            record = await other.register(info, daemon=GATEWAY)
            assert record.enabled
            assert reached == [True]
            await other.unregister("notes")
        await s.until_said("no longer")


async def test_server_that_never_listens_there_is_warned_about(tmp_path: Path) -> None:
    settings = HostSettings(data_dir=tmp_path, port=1)
    with socket.create_server(("127.0.0.1", 0)) as loopback:
        url = f"http://127.0.0.1:{loopback.getsockname()[1]}"
        backend, app, events = NetworkedBackend(), StubApp(), list[Event]()
        app.answer("/init", 404)
        async with Host.open(
            settings,
            backends={"stub-install": backend},
            transport_for=lambda _: memory_transport(app),
        ) as host:
            config = {"gateway": GATEWAY, "nextcloud_url": url}
            await host.register_daemon(Daemon("d", "", "stub-install", "http", "h", config))
            with host.bus.subscribed(events.append):
                await host.register(AppInfo(id="notes", name="N", version="1"), daemon="d")
    port = url.rpartition(":")[2]
    (notice,) = [e.text for e in events if isinstance(e, Notice)]
    assert notice == f"nobody listens on {GATEWAY} port {port}, where the app will look for {url}"
