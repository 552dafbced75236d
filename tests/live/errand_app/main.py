"""An ExApp in plain Python that registers what a host can ask for; it prints what it is asked."""

import base64
import hmac
import json
import os
import select
import sys
import threading
import typing
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ID, SECRET, VERSION = os.environ["APP_ID"], os.environ["APP_SECRET"], os.environ["APP_VERSION"]
OCS = os.environ["NEXTCLOUD_URL"] + "/ocs/v2.php/"
GO = threading.Event()

WORDS = {
    "arguments": [
        {"name": "path", "mode": "required", "description": "Where"},
        {"name": "extra", "mode": "array", "description": "More", "default": "a,b"},
    ],
    "options": [
        {"name": "force", "shortcut": "f", "mode": "none", "description": "No questions"},
        {"name": "limit", "mode": "required", "description": "How many", "default": "10"},
        {"name": "colour", "mode": "negatable", "description": "Or none"},
        {"name": "tag", "mode": "array", "description": "Which"},
    ],
    "usages": ["/Notes --limit 5"],
}
COMMANDS = {
    "errands:words": ("occ/words", WORDS),
    "errands:slow": ("occ/slow", {}),
    "errands:go": ("occ/go", {}),
    "errands:forever": ("occ/forever", {}),
    "errands:broken": ("occ/broken", {}),
    "errands:half": ("occ/half", {}),
    "errands:hidden": ("occ/go", {"hidden": 1}),
}


PROVIDER = {
    "id": "errands:shout",
    "name": "Shouts",
    "task_type": "core:text2text",
    "expected_runtime": 1,
    "optional_input_shape": [],
    "optional_output_shape": [],
    "input_shape_enum_values": {},
    "input_shape_defaults": {},
    "optional_input_shape_enum_values": {},
    "optional_input_shape_defaults": {},
    "output_shape_enum_values": {},
    "optional_output_shape_enum_values": {},
}
FORM = {
    "id": "main",
    "section_type": "admin",
    "title": "Main",
    "fields": [{"id": "model", "type": "select", "options": ["small", "large"]}],
}
ACTION = {"name": "convert", "displayName": "Convert", "actionHandler": "convert", "mime": "video"}
HOOK = {
    "httpMethod": "POST",
    "uri": "/hook",
    "event": "OCP\\Files\\Events\\Node\\NodeCreatedEvent",
    "headers": {"X-My": "1"},
}
SECRETS: dict[str, str] = {}


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def call(path: str, body: dict[str, object], method: str = "POST", **headers: str) -> typing.Any:
    """Ask the host; the data of its answer, or None if it has none."""
    signed = {
        "EX-APP-ID": ID,
        "EX-APP-VERSION": VERSION,
        "AUTHORIZATION-APP-API": base64.b64encode(f":{SECRET}".encode()).decode(),
    }
    request = urllib.request.Request(
        f"{OCS}{path}?format=json",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "OCS-APIRequest": "true", **(headers or signed)},
        method=method,
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        text = answer.read()
    return json.loads(text)["ocs"]["data"] if text else None


def register() -> None:
    for name, (handler, more) in COMMANDS.items():
        body = {"name": name, "description": f"Runs {name}", "execute_handler": handler, **more}
        call("apps/app_api/api/v1/occ_command", body)
    call("apps/app_api/api/v2/ui/files-actions-menu", ACTION)
    call("apps/app_api/api/v1/ui/settings", {"formScheme": FORM})
    call("apps/app_api/api/v1/ai_provider/task_processing", {"provider": PROVIDER})
    call("apps/webhook_listeners/api/v1/webhooks", HOOK)
    bot = {"name": "Echo", "route": "bot", "description": "Says it again"}
    SECRETS["bot"] = call("apps/app_api/api/v1/talk_bot", bot)["secret"]


def work() -> None:
    """Empty the queue of tasks."""
    kinds = {"providerIds": ["errands:shout"], "taskTypeIds": ["core:text2text"]}
    tasks = "taskprocessing/tasks_provider"
    while found := call(f"{tasks}/next", kinds, "GET"):
        text = found["task"]["input"]["input"]
        result = {"output": {"output": text.upper()}}
        call(f"{tasks}/{found['task']['id']}/result", result)


def answer_bot(activity: dict[str, typing.Any]) -> None:
    message = json.loads(activity["object"]["content"])["message"] * 2
    random = "r" * 32
    text = (random + message).encode()
    headers = {
        "X-Nextcloud-Talk-Bot-Random": random,
        "X-Nextcloud-Talk-Bot-Signature": hmac.digest(
            SECRETS["bot"].encode(), text, "sha256"
        ).hex(),
    }
    room = activity["target"]["id"]
    call(f"apps/spreed/api/v1/bot/{room}/message", {"message": message}, **headers)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def do_GET(self) -> None:
        self.answer(200, '{"status": "ok"}')

    def do_PUT(self) -> None:
        if self.path.endswith("=1"):
            register()
        self.answer(200, '{"error": ""}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        say(self.path, body)
        match self.path:
            case "/occ/slow" | "/occ/forever":
                self.begin()
                self.piece("one\n")
                while self.path.endswith("forever") or not GO.is_set():
                    if select.select([self.connection], [], [], 0.02)[0]:
                        say("nobody listens any more")
                        self.close_connection = True
                        return
                self.piece("two\n")
                self.piece("")
            case "/occ/go":
                GO.set()
                self.answer(200, "")
            case "/occ/half":
                self.begin()
                self.piece("half\n")
                self.close_connection = True
            case "/occ/broken":
                self.answer(500, "no disk")
            case "/bot":
                self.answer(200, "{}")
                answer_bot(json.loads(body))
            case path if path.startswith("/trigger"):
                self.answer(200, "{}")
                work()
            case _:
                self.answer(404 if self.path == "/init" else 200, body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


ThreadingHTTPServer((os.environ["APP_HOST"], int(os.environ["APP_PORT"])), Handler).serve_forever()
