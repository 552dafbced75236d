"""Generated requests to every OCS route: `python -m tests.fuzz.ocs --requests 20000`.

schemathesis reads the host's own description of its routes and makes requests that fit it, and
others that do not, because it does so for any API without knowing ours. They go to `serve`, as a
person starts it, over sockets; behind it is an app that answers. Every fifth is sent below `v2.php`
as well.

Exits with 1 if an answer is a 5xx, if one takes longer than `LIMIT`, or if the host logs an error.
Below `v2.php` the contract itself makes an HTTP 500 of three refusals: 996, a parameter that is
missing or of a wrong type, 999, something that groups do not have, and 500, an app that does not
answer. These are counted apart.
"""

import argparse
import base64
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable

from appapi_host.host import Host
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State
from exapp_sdk.protocol.status import Status
from tests.ports import free_port

LIMIT = 20.0
"""Seconds that an answer may take; 3 of them an app that is asked may take."""

APP_ID = "fuzz"
SECRET = "0123456789abcdef" * 4
MANUAL = Daemon("manual_install", "Manual", "manual-install", "http", "127.0.0.1")

KNOWN = {
    "appId": (APP_ID, "other"),
    "app": (APP_ID, "files"),
    "id": ("1", "2", "3"),
    "taskId": ("1", "2"),
    "messageId": ("1",),
    "fileId": ("1",),
    "userId": ("admin", "user"),
    "user_id": ("admin", "user"),
    "list": ("all", "enabled"),
}
"""What there may be, so that not every request is about something unknown."""


class Answering(BaseHTTPRequestHandler):
    """An app that agrees to everything."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b'{"status": "ok"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  # names of the library

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


async def prepare(folder: Path, port: int) -> None:
    """The state of a host with that app."""
    async with Host.open(HostSettings(data_dir=folder)) as host:
        await host.users.create_defaults(loopback=True)
        await host.register_daemon(MANUAL)
        await host.registry.add_app(
            AppRecord(
                APP_ID,
                "1.0.0",
                "Fuzz",
                MANUAL,
                port,
                Secret(SECRET),
                State.ENABLED,
                enabled=True,
                status=Status(deploy=100, init=100, type=""),
            )
        )


@contextmanager
def served() -> Iterator[tuple[str, Path]]:
    """The address of a host, and the file with what it says on standard error."""
    app = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=app.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        anyio.run(partial(prepare, folder, app.server_port))
        errors = folder / "errors"
        words = ["-m", "appapi_host", "serve", "--port", str(port), "--data-dir", name]
        with errors.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=log
            )
        url = f"http://127.0.0.1:{port}"
        try:
            while True:
                try:
                    requests.get(f"{url}/status.php", timeout=LIMIT)
                except requests.ConnectionError:
                    if process.poll() is not None:
                        sys.exit(f"the host did not start: {errors.read_text()}")
                    time.sleep(0.05)
                else:
                    break
            yield url, errors
        finally:
            process.terminate()
            process.wait()
            app.shutdown()


@dataclass
class Fuzz:
    """Sends cases and keeps count."""

    url: str
    dice: random.Random
    session: requests.Session = field(default_factory=requests.Session)
    statuses: dict[int, Counter[int]] = field(default_factory=lambda: {1: Counter(), 2: Counter()})
    codes: Counter[int] = field(default_factory=Counter)
    contract: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    sent: int = 0

    def headers(self) -> dict[str, str]:
        """Who asks: mostly the app in somebody's name, now and then nobody who may."""
        [user] = self.dice.choices(["admin", "user", "", "nobody"], weights=[70, 15, 12, 3])
        secret = SECRET if self.dice.random() < 0.97 else "wrong"
        pair = base64.b64encode(f"{user}:{secret}".encode()).decode()
        return {
            "EX-APP-ID": APP_ID,
            "EX-APP-VERSION": "1.0.0",
            "AUTHORIZATION-APP-API": pair,
            "Accept": self.dice.choice(["application/json", "application/xml", "*/*"]),
        }

    def send(self, case: schemathesis.Case) -> None:
        """Send a case; every fifth to the second version too."""
        for name in case.path_parameters or {}:
            if name in KNOWN and self.dice.random() < 0.6:
                case.path_parameters[name] = self.dice.choice(KNOWN[name])
        self.sent += 1
        for version in (1, 2) if self.sent % 5 == 0 else (1,):
            self._send(case, version)
        if self.sent % 50 == 0:
            self._restore()
        if self.sent % 1000 == 0:
            sys.stderr.write(f"{self.sent:,} requests, {len(self.broken)} broken\n")

    def _send(self, case: schemathesis.Case, version: int) -> None:
        words = case.as_transport_kwargs(base_url=f"{self.url}/ocs/v{version}.php")
        made = dict(words.get("headers") or {})
        # How a body is sent is the client's business, and it refuses to send another encoding.
        kept = {name: text for name, text in made.items() if name.lower() != "transfer-encoding"}
        words["headers"] = kept | self.headers()
        what = f"{words['method']} {words['url']}"
        began = time.perf_counter()
        try:
            answer = self.session.request(**words, timeout=LIMIT, allow_redirects=False)
        except requests.RequestException as error:
            self.broken.append(f"{what}: {type(error).__name__}: {error}")
            return
        self.slowest = max(self.slowest, (time.perf_counter() - began, what))
        self.statuses[version][answer.status_code] += 1
        code = statuscode(answer)
        self.codes[code] += 1
        if answer.status_code < 500:
            return
        if version == 2 and code in (996, 999, 500) and answer.status_code == 500:
            self.contract[code] += 1
            return
        self.broken.append(f"{what}: {answer.status_code} {answer.text[:300]}")

    def _restore(self) -> None:
        """Bring back the app and the user if a request has switched them off or deleted them."""
        base, admin = f"{self.url}/ocs/v2.php", {"auth": ("admin", "admin"), "timeout": LIMIT}
        enabled = f"{base}/apps/app_api/api/v1/ex-app/{APP_ID}/enabled"
        self.session.put(enabled, json={"enabled": 1}, **admin)
        user = {"userid": "user", "password": "user"}
        self.session.post(f"{base}/cloud/users", json=user, **admin)
        self.session.put(f"{base}/cloud/users/user/enable", **admin)


def statuscode(answer: requests.Response) -> int:
    """The code in the envelope; 0 if there is no envelope."""
    _, found, rest = answer.text.partition('"statuscode":')
    if not found:
        _, found, rest = answer.text.partition("<statuscode>")
    digits = rest[:4].rstrip(",<} ")
    return int(digits) if digits.isdigit() else 0


def run(count: int, number: int) -> int:
    """Send at least so many requests; returns the exit code."""
    with served() as (url, errors):
        described = requests.get(f"{url}/ocs/openapi.json", timeout=LIMIT).json()
        schema = schemathesis.openapi.from_dict(described)
        operations = [found.ok() for found in schema.get_all_operations()]
        fuzz = Fuzz(url, random.Random(number))
        began = time.perf_counter()
        turn = 0
        while fuzz.sent < count:
            for operation in operations:
                for mode in (
                    schemathesis.GenerationMode.POSITIVE,
                    schemathesis.GenerationMode.NEGATIVE,
                ):
                    turn += 1
                    examples = max(1, min(100, -(-count // (2 * len(operations)))))
                    drive(
                        fuzz, operation.as_strategy(generation_mode=mode), examples, number + turn
                    )
                    if fuzz.sent >= count:
                        break
        seconds = time.perf_counter() - began
        logged = errors.read_text()
    write = sys.stdout.write
    total = sum(sum(counter.values()) for counter in fuzz.statuses.values())
    write(f"{total:,} requests to {len(operations)} operations in {seconds:.0f} s, seed {number}\n")
    for version, counter in fuzz.statuses.items():
        shown = ", ".join(f"{status}: {times:,}" for status, times in sorted(counter.items()))
        write(f"HTTP status below v{version}.php: {shown}\n")
    shown = ", ".join(f"{code}: {times:,}" for code, times in sorted(fuzz.codes.items()))
    write(f"OCS codes: {shown}\n")
    shown = ", ".join(f"{code}: {times:,}" for code, times in sorted(fuzz.contract.items()))
    write(f"500 below v2.php that the contract asks for, by OCS code: {shown or 'none'}\n")
    write(f"other 5xx, broken connections and answers that took over {LIMIT:g} s: ")
    write(f"{len(fuzz.broken)}\n")
    write(f"slowest answer: {fuzz.slowest[0]:.2f} s, {fuzz.slowest[1]}\n")
    write(f"lines that the host logged: {len(logged.splitlines())}\n")
    for line in [*fuzz.broken[:20], *logged.splitlines()[:60]]:
        write(f"  {line}\n")
    return int(bool(fuzz.broken or logged))


def drive(fuzz: Fuzz, strategy: Any, examples: int, number: int) -> None:
    """Send so many examples of a strategy; none if nothing fits it."""

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def send(case: schemathesis.Case) -> None:
        fuzz.send(case)

    # For instance: nothing can be wrong for an operation without parameters.
    with suppress(Unsatisfiable):
        send()


def main() -> int:
    """Read the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="how many (default 20000)")
    parser.add_argument("--seed", type=int, default=1, help="of what is generated (default 1)")
    options = parser.parse_args()
    return run(options.requests, options.seed)


if __name__ == "__main__":
    sys.exit(main())
