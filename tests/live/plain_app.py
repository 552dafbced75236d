"""An ExApp in plain Python, nothing of ours in it; `MODE` in its environment says how it behaves.

Modes: `init` (reports progress), `die` (on `GET /die`), `children` (one in its session, one outside
of it, their ids printed), `leak` (prints its secret), `html`, `exit`, `deaf` (never listens),
`refuse` (to be enabled), `cling` (refuses to be disabled), `fail` (its init), `vanish` (while it
prepares), `stubborn` (ignores SIGTERM, `/enabled` and its init), `brief` (ends after its
heartbeat), `crash` (ends in its init), `idle` (its init never ends unless there is `/ready`).
"""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODE = os.environ.get("MODE", "")
ID, SECRET, VERSION = os.environ["APP_ID"], os.environ["APP_SECRET"], os.environ["APP_VERSION"]
AUTHORIZATION = base64.b64encode(f":{SECRET}".encode()).decode()


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def report(body: dict[str, object]) -> None:
    request = urllib.request.Request(
        os.environ["NEXTCLOUD_URL"] + "/ocs/v1.php/apps/app_api/ex-app/status",
        json.dumps(body).encode(),
        {
            "Content-Type": "application/json",
            "OCS-APIRequest": "true",
            "EX-APP-ID": ID,
            "EX-APP-VERSION": VERSION,
            "AUTHORIZATION-APP-API": AUTHORIZATION,
        },
        method="PUT",
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        answer.read()


def prepare() -> None:
    if MODE == "fail":
        report({"progress": 67, "error": "no space left"})
        return
    for percent in (5, 20, 24, 60, 100):
        report({"progress": percent})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, text: str, kind: str = "application/json") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/heartbeat":
            if MODE == "html":
                self.answer(200, "<html>It works!</html>", "text/html")
            else:
                self.answer(200, '{"status": "ok"}')
                if MODE == "brief":
                    say("that was all")
                    os._exit(5)
        elif self.headers["Upgrade"] == "websocket":
            self.echo()
        elif self.path == "/die" and MODE == "die":
            say("dying now")
            os._exit(7)
        else:
            seen = {"authorization": self.headers["Authorization"]}
            self.answer(200, json.dumps({"path": self.path, "mode": MODE} | seen))

    def echo(self) -> None:
        """A websocket that sends back short messages, after what it was shown in the handshake."""
        magic = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade")):
            self.send_header(name, value)
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        seen = str(self.headers["Authorization"]).encode()
        self.wfile.write(bytes([0x81, len(seen)]) + seen)
        while len(head := self.rfile.read(6)) == 6:  # type, length and mask of a client's frame
            data = self.rfile.read(head[1] & 127)
            plain = bytes(byte ^ head[2 + i % 4] for i, byte in enumerate(data))
            self.wfile.write(bytes([head[0], len(plain)]) + plain)
            if head[0] & 15 == 8:  # a close, which is agreed to
                break
        self.close_connection = True

    def do_POST(self) -> None:
        if MODE not in ("init", "fail", "stubborn", "vanish", "crash", "idle"):
            self.answer(404, "{}")
            return
        self.answer(200, "{}")
        if MODE == "vanish":
            os.kill(os.getpid(), signal.SIGKILL)
        if MODE == "crash":
            say("the model is broken")
            os._exit(6)
        if MODE == "idle" and not Path("/ready").exists():
            say("preparing")
        elif MODE != "stubborn":
            threading.Thread(target=prepare, daemon=True).start()

    def do_PUT(self) -> None:
        if MODE == "stubborn":
            threading.Event().wait()
        refuses = (MODE, self.path[-1]) in (("refuse", "1"), ("cling", "0"))
        say(f"switched {self.path}")
        self.answer(200, json.dumps({"error": "not today" if refuses else ""}))

    def log_message(self, *args: object) -> None:
        """Quiet."""


if MODE == "exit":
    sys.stderr.write("cannot find my model\n")
    sys.exit(3)
if MODE == "deaf":
    say("deaf")
    threading.Event().wait()
if MODE == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if MODE == "leak":
    say(f"my secret is {SECRET}")
if MODE in ("children", "stubborn"):
    sleep = [sys.executable, "-c", "import signal; signal.sigwait([signal.SIGUSR1])"]
    children = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
    say("children", *(child.pid for child in children))
ThreadingHTTPServer((os.environ["APP_HOST"], int(os.environ["APP_PORT"])), Handler).serve_forever()
