"""`run --deploy docker` as a person uses it, on the session's engine."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.docker.engines import DockerEngine
from tests.live.cli_shell import Running, Shell, get, write_app
from tests.ports import free_port

pytestmark = pytest.mark.docker

IMAGE = "localhost/exapp/boxed:1.2.0"
DOCKERFILE = """\
ARG BASE=python:3.11-slim
FROM $BASE
COPY main.py /app/
WORKDIR /app
STOPSIGNAL SIGINT
CMD ["python3", "main.py"]
"""
# Plain Python as process 1 ignores SIGTERM, and KeyboardInterrupt it does not.

# The first process of a session may make a terminal the one that controls it.
AT_TERMINAL = (
    "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "from appapi_host.cli import main; sys.exit(main())"
)


class Desk:
    """A person with a folder, a shell and the engine."""

    def __init__(self, folder: Path, engine: DockerEngine, base: str) -> None:
        self.shell = Shell(folder)
        self.app = write_app(folder / "app", "boxed")
        self.dockerfile = self.app / "Dockerfile"
        self.dockerfile.write_text(DOCKERFILE)
        self.engine = engine
        self.words: list[object] = [
            *("run", self.app, "--deploy", "docker", "--daemon-host", engine.socket),
            *("--build-arg", f"BASE={base}", "--port", free_port()),
        ]

    def images(self) -> list[str]:
        """Names of the images that are ours; those without one too."""
        label = "label=org.nextcloud.appapi.app=boxed"
        shown = "{{.Repository}}:{{.Tag}}"
        return self.engine.docker("images", "--filter", label, "--format", shown).split()

    def left(self) -> list[str]:
        """What is on the engine besides images."""
        return [
            *self.engine.docker("ps", "--all", "--format", "{{.Names}}").split(),
            *self.engine.docker("volume", "ls", "--quiet").split(),
        ]

    def replace(self, path: Path, old: str, new: str) -> None:
        """Change a file at once, as editors do."""
        text = path.read_text()
        assert old in text
        fresh = path.with_name(".fresh~")
        fresh.write_text(text.replace(old, new))
        fresh.replace(path)

    @contextmanager
    def at_terminal(self, *words: object) -> Iterator[tuple[Running, int]]:
        """Run with a keyboard; yields what is printed, and where to type."""
        person, program = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", AT_TERMINAL, *map(str, [*self.words, *words])],
            env=self.shell.environment(),
            cwd=self.shell.folder,
            stdin=program,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            os.close(program)
            try:
                yield Running(process), person
            finally:
                process.kill()
                os.close(person)


@pytest.fixture
def desk(tmp_path: Path, engine: DockerEngine, base_image: str) -> Iterator[Desk]:
    desk = Desk(tmp_path, engine, base_image)
    yield desk
    for image in set(desk.images()):
        with suppress(AssertionError):
            engine.docker("image", "rm", "--force", image)


def test_once_builds_installs_and_leaves_nothing_but_the_image(desk: Desk) -> None:
    done = desk.shell.call(*desk.words, "--once", "--env", "MODE=init")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [re.sub(r"\d+\.\d\d s", "N s", line) for line in done.stdout.splitlines()]
    steps = [line for line in lines if re.match("build|deploy|heartbeat|init|enabled|dis", line)]
    assert steps == [
        "build       0 %  1/6  ARG BASE=python:3.11-slim",
        "build       16 %  2/6  FROM $BASE",
        "build       33 %  3/6  COPY main.py /app/",
        "build       50 %  4/6  WORKDIR /app",
        "build       66 %  5/6  STOPSIGNAL SIGINT",
        'build       83 %  6/6  CMD ["python3", "main.py"]',
        next(line for line in steps if line.startswith(f"build       ok  N s  {IMAGE}  3 files, ")),
        "deploy      ok  N s",
        "heartbeat   ok  N s",
        "init        20 %",
        "init        60 %",
        "init        100 %",
        "init        ok  N s",
        "enabled     ok  N s",
        "disabled    ok  N s",
    ]
    assert done.stderr == ""
    assert desk.left() == []
    assert desk.images() == [IMAGE]
    labels = json.loads(desk.engine.docker("inspect", IMAGE))[0]["Config"]["Labels"]
    assert labels["org.nextcloud.appapi.version"] == "1.2.0"
    assert re.fullmatch(r"\S{8,}", labels["org.nextcloud.appapi.host"])


def test_image_is_removed_on_request(desk: Desk) -> None:
    done = desk.shell.call(*desk.words, "--once", "--rm-image")
    assert done.returncode == 0, done.stdout + done.stderr
    assert desk.images() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_app_on_a_bridge_is_used_followed_and_cleaned_up(desk: Desk, number: int) -> None:
    words = [*desk.words, "--net", "bridge", "--env", "MODE=init"]
    with desk.shell.start(*words) as running:
        running.until("Ctrl-C stops it")
        assert desk.left() == ["nc_app_boxed", "nc_app_boxed_data"]
        base = f"{running.url}/index.php/apps/app_api/proxy/boxed"
        assert json.loads(get(f"{base}/public/x")[1])["mode"] == "init"
        logs = desk.shell.call("logs", "boxed")
        assert (logs.stdout, logs.returncode) == ("switched /enabled?enabled=1\n", 0)
        with desk.shell.start("logs", "boxed", "--follow", "--tail", "1") as following:
            following.until("switched /enabled.enabled=1")
            assert running.stop(number) == 0
            assert "switched /enabled?enabled=0" in following.rest()
            assert following.process.returncode == 0
    assert "app         switched /enabled?enabled=0" in running.lines
    assert running.lines[-1] == "boxed is stopped and removed; its storage too."
    assert desk.left() == []
    missing = desk.shell.call("logs", "boxed")
    assert missing.returncode == 1
    assert "ERROR: no app boxed is installed in" in missing.stderr


def test_key_installs_what_is_in_the_folder_anew(desk: Desk) -> None:
    with desk.at_terminal() as (running, keyboard):
        running.until("Ctrl-C stops it. To install it anew: the key r.")
        desk.replace(desk.app / "main.py", "switched", "turned")
        os.write(keyboard, b"xr")
        running.until("app +turned /enabled.enabled=1")
        running.until("boxed 1.2.0 is enabled, installed anew.")
        # What the build before has made has no name any more.
        assert desk.images() == [IMAGE]
        desk.replace(desk.app / "appinfo" / "info.xml", "1.2.0", "1.3.0")
        os.write(keyboard, b"R")
        running.until("boxed 1.3.0 is enabled, installed anew.")
        desk.replace(desk.app / "appinfo" / "info.xml", "<id>boxed", "<id>other")
        os.write(keyboard, b"r")
        running.until("says other now, which is another app")
        running.until("What ran before runs on: boxed 1.3.0.")
        os.write(keyboard, b"\x03")
        assert "boxed is stopped and removed" in running.rest()
        assert running.process.returncode == 0
    assert desk.left() == []


def test_changes_are_installed_and_broken_ones_leave_the_old_version_at_work(desk: Desk) -> None:
    with desk.shell.start(*desk.words, "--watch", "--env", "MODE=die") as running:
        running.until("To install it anew: a change in the folder.")
        page = f"{running.url}/index.php/apps/app_api/proxy/boxed"
        desk.replace(desk.dockerfile, "WORKDIR", "RUN nosuch\nWORKDIR")
        running.until("changed: Dockerfile")
        running.until("cause: Dockerfile line 4, RUN nosuch")
        running.until("last lines of the build")
        running.until("nosuch: not found")
        running.until("What ran before runs on")
        assert get(f"{page}/public/x")[0] == 200
        desk.replace(desk.dockerfile, "RUN nosuch\n", "")
        running.until("installed anew")
        desk.replace(desk.app / "main.py", "import json", "import jsn")
        running.until("changed: main.py")
        running.until("app +ModuleNotFoundError")
        running.until("What ran before runs on")
        assert get(f"{page}/public/x")[0] == 200
        get(f"{page}/die")
        running.until("app +dying now")
        running.until("ERROR: boxed ended while it was enabled: exit code 7")
        running.until("Waiting for a change in the folder")
        desk.replace(desk.dockerfile, "FROM", "FRM")
        running.until("boxed does not run now. To install it anew: a change in the folder.")
        desk.replace(desk.dockerfile, "FRM", "FROM")
        desk.replace(desk.app / "main.py", "import jsn", "import json")
        running.until("installed anew")
        assert get(f"{page}/public/x")[0] == 200
        assert running.stop(signal.SIGINT) == 0
    assert desk.left() == []
    assert desk.images() == [IMAGE]


def test_app_that_ends_while_enabled_ends_the_run(desk: Desk) -> None:
    with desk.shell.start(*desk.words, "--env", "MODE=die") as running:
        running.until("Ctrl-C stops it")
        get(f"{running.url}/index.php/apps/app_api/proxy/boxed/die")
        output = running.rest()
        assert running.process.returncode == 1
    assert "ERROR: boxed ended while it was enabled: exit code 7" in output
    assert "    | dying now" in output
    assert desk.left() == []


@pytest.mark.parametrize(
    ("dockerfile", "cause", "remedy", "last"),
    [
        (
            "FROM {base}\nCOPY main.py /\nRUN echo one && \\\n  exit 3\n",
            "Dockerfile line 3, RUN echo one && exit 3",
            "sh` is the state before this instruction",
            "one",
        ),
        ("FROM {base}\nRUN nosuch\n", "non-zero code: 127", "is not in the image", "not found"),
        ("FROM {base}\nCOPY nope /\n", "line 2, COPY nope /", "must be inside it", ""),
        (
            "FROM {base} AS one\nFROM {base}\nCOPY --from=one /nope /\n",
            "line 3, COPY --from=one /nope /",
            "root of the stage",
            "",
        ),
        (
            # What goes to standard error is cut in the middle of lines by the engine.
            'FROM {base}\nRUN python3 -c "import nope"\n',
            "line 2, RUN python3",
            "before this instruction",
            "    | ModuleNotFoundError: No module named 'nope'\n",
        ),
        ("FROM {base}\nCOPY x.log /\n", "line 2, COPY x.log /", "line 2 of .dockerignore", ""),
        ("FROM {base}\n\nCOPI a b\n", "Dockerfile line 3, COPI a b", "misspelt", ""),
        ("FROM {base}\nRUN --mount=type=cache,target=/x ls\n", "BuildKit", "without --mount", ""),
        ("FROM localhost:1/nope\n", "line 1, FROM localhost:1/nope", "--build-arg BASE=", ""),
        ("COPY a b\n", "no build stage", "`docker build` in the folder", ""),
    ],
)
def test_failed_build_names_instruction_line_reason_and_remedy(
    desk: Desk, base_image: str, dockerfile: str, cause: str, remedy: str, last: str
) -> None:
    (desk.app / ".dockerignore").write_text("# logs\n*.log\n")
    (desk.app / "x.log").write_text("")
    desk.dockerfile.write_text(dockerfile.format(base=base_image))
    done = desk.shell.call(*desk.words)
    assert done.returncode == 1
    assert "build       failed" in done.stdout
    assert "ERROR: boxed could not be installed\n" in done.stderr
    for text in (cause, remedy, last):
        assert text in done.stderr
    assert ("last lines of the build:" in done.stderr) == bool(last)
    assert "\nTraceback" not in done.stderr
    assert desk.left() == []


def test_folder_without_a_dockerfile_is_told_what_to_put_there(desk: Desk) -> None:
    desk.dockerfile.unlink()
    done = desk.shell.call(*desk.words)
    assert done.returncode == 1
    assert f"  cause: there is no {desk.dockerfile}" in done.stderr
    assert "         FROM python:3.11-slim\n" in done.stderr


def test_interrupted_build_leaves_no_container(desk: Desk) -> None:
    desk.replace(desk.dockerfile, "WORKDIR", "RUN echo busy; sleep 600\nWORKDIR")
    with desk.shell.start(*desk.words) as running:
        running.until("RUN echo busy; sleep 600")
        wait = f"unix://{desk.engine.socket}"
        started = ["docker", "-H", wait, "events", "--since", "0s", "--filter", "event=start"]
        with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as events:
            if not desk.left():
                assert events.stdout is not None
                events.stdout.readline()
            events.terminate()
        assert running.stop(signal.SIGINT) == 0
    assert desk.left() == []


def test_what_a_killed_run_has_left_is_removed_by_the_next_one(desk: Desk) -> None:
    desk.replace(desk.dockerfile, "STOPSIGNAL SIGINT\n", "")  # it ignores the other one
    with desk.shell.start(*desk.words, "--env", "MODE=stubborn") as running:
        running.until("heartbeat   ok")
        running.process.send_signal(signal.SIGINT)
        running.until("once more ends at once; the next run removes what is left")
        running.process.send_signal(signal.SIGINT)
        running.rest()
        assert running.process.returncode == 128 + signal.SIGINT
    assert desk.left() == ["nc_app_boxed", "nc_app_boxed_data"]
    done = desk.shell.call(*desk.words, "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "an earlier run was killed: its app still ran (container), and was stopped" in done.stdout
    )
    assert desk.left() == []


def test_container_of_somebody_else_is_left_alone(desk: Desk, base_image: str) -> None:
    desk.engine.docker("create", "--name", "nc_app_boxed", base_image, "true")
    done = desk.shell.call(*desk.words, "--once")
    assert done.returncode == 1
    assert "a container nc_app_boxed" in done.stderr
    assert desk.left() == ["nc_app_boxed"]


def test_network_that_does_not_exist_is_named_before_anything_is_built(desk: Desk) -> None:
    done = desk.shell.call(*desk.words, "--net", "nowhere")
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "build " not in done.stdout


def test_missing_engine_is_told_with_what_to_do(desk: Desk, tmp_path: Path) -> None:
    words = ["run", desk.app, "--deploy", "docker"]
    done = desk.shell.call(*words, "--daemon-host", tmp_path / "no.sock")
    assert done.returncode == 1
    assert (
        f"cause: no Docker Engine can be reached: there is no socket {tmp_path}/no.sock"
        in done.stderr
    )
    assert "name another one with --daemon-host" in done.stderr
    elsewhere = desk.shell.call(*words, DOCKER_HOST="tcp://127.0.0.1:1")
    assert elsewhere.returncode == 1
    assert "nothing listens at http://127.0.0.1:1" in elsewhere.stderr
    assert "Ctrl-C" not in elsewhere.stdout
    unusable = desk.shell.call(*words, "--daemon-host", "ssh://box")
    assert unusable.returncode == 1
    assert "ssh://box is no address of an engine" in unusable.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--rm-image"],
        ["--net", "bridge"],
        ["--build-arg", "A=b"],
        ["--daemon-host", "/x"],
        ["--deploy", "docker", "--", "python3", "x.py"],
        ["--deploy", "podman"],
    ],
)
def test_options_that_do_not_fit_are_refused(desk: Desk, words: list[str]) -> None:
    done = desk.shell.call("run", desk.app, *words)
    assert done.returncode == 2
    assert "Error: " in done.stderr
