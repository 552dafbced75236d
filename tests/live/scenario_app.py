"""The ExApps of tests/wire/lifecycle-scenarios.json, rebuilt from their descriptions.

Standard library only and nothing of ours, so that it can witness for or against both packages.

usage: scenario_app.py NAME PORT HOST_URL LOG_FILE
"""

import base64
import json
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME, PORT, HOST_URL, LOG_FILE = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
APP_ID, SECRET, VERSION = "scen", "12345", "1.0.0"

CURRENT = "/ocs/v1.php/apps/app_api/ex-app/status"
DEPRECATED = f"/ocs/v1.php/apps/app_api/apps/status/{APP_ID}"

INIT_ANSWERS = {
    "init_404": (404, b"{}"),
    "init_501": (501, b"{}"),
    "init_500": (500, b'{"error":"boom"}'),
}
ENABLED_ANSWERS = {
    "en_err": (200, "application/json", b'{"error":"i cannot handle enabling"}'),
    "en_500": (500, "application/json", b'{"error":"x"}'),
    "en_noerr": (200, "application/json", b"{}"),
    "en_text": (200, "text/plain", b"ok"),
}
# The recorded apps waited between their reports; the order is all that counts.
REPORTS = {
    "init_err": [
        {"progress": 10},
        {"progress": 67, "error": "connection error to huggingface."},
    ],
    "init_range": [{"progress": value} for value in (0, 150, -1, 100)],
    "init_dep": [{"progress": 50}, {"progress": 100}],
    "init_back": [{"progress": value} for value in (60, 30, 100)],
    "init_slow": [{"progress": value} for value in (10, 40, 80, 100)],
    "init_never": [{"progress": 10}],
}
WELL_BEHAVED = [{"progress": 100}]

lock = threading.Lock()


def note(line: str) -> None:
    with lock, LOG_FILE.open("a") as file:
        file.write(line + "\n")


def report(body: dict[str, object]) -> None:
    pair = base64.b64encode(f":{SECRET}".encode()).decode()
    request = urllib.request.Request(
        HOST_URL + (DEPRECATED if NAME == "init_dep" else CURRENT),
        method="PUT",
        data=json.dumps(body).encode(),
        headers={
            "AA-VERSION": "32.0.0",
            "EX-APP-ID": APP_ID,
            "EX-APP-VERSION": VERSION,
            "AUTHORIZATION-APP-API": pair,
            "Accept": "application/json",
            "Content-Type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            note(f"status {body} {answer.status} {answer.read()!r}")
    except urllib.error.HTTPError as error:
        note(f"status {body} {error.code} {error.read()!r}")


def initialize() -> None:
    for body in REPORTS.get(NAME, WELL_BEHAVED):
        report(body)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def seen(self) -> None:
        note(f"{self.command} {self.path} {self.headers.get('AUTHORIZATION-APP-API')}")

    def do_GET(self) -> None:
        self.seen()
        self.answer(200, "application/json", b'{"status":"ok"}')

    def do_POST(self) -> None:
        self.seen()
        status, body = INIT_ANSWERS.get(NAME, (200, b"{}"))
        self.answer(status, "application/json", body)
        if status == 200:
            threading.Thread(target=initialize, daemon=True).start()

    def do_PUT(self) -> None:
        self.seen()
        if "enabled=1" in self.path:
            answer = ENABLED_ANSWERS.get(NAME, (200, "application/json", b'{"error":""}'))
        else:
            answer = (200, "application/json", b'{"error":""}')
        self.answer(*answer)


server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
server.daemon_threads = True
sys.stdout.write("listening\n")
sys.stdout.flush()
server.serve_forever()
