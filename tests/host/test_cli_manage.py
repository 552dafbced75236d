"""occ commands about registries, configuration, users, groups; and what was removed upstream."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from appapi_host.__main__ import main
from appapi_host.daemon_config import parse_size
from appapi_host.host import REGISTRY_FILE
from appapi_host.records import AppRecord, Daemon
from appapi_host.registry import Registry
from appapi_host.users import Users
from appapi_host.values import KEY_FILE
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State

Occ = Callable[..., tuple[list[str], list[str], int]]
MANUAL = ("manual", "Manual", "manual-install", "http", "localhost", "http://127.0.0.1:8080")
ENGINE = ("engine", "E", "docker-install", "https", "127.0.0.1:1", "http://127.0.0.1:8080")


@pytest.fixture
def occ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Occ:
    def run(*words: str) -> tuple[list[str], list[str], int]:
        code = main(["occ", "--data-dir", str(tmp_path), *words])
        captured = capsys.readouterr()
        return captured.out.splitlines(), captured.err.splitlines(), code

    return run


@pytest.fixture
def app(tmp_path: Path) -> str:
    """An app that is registered and disabled, with scopes of old."""
    place = Daemon("manual", "", "", "", "")
    scopes = {"scopes": ["FILES", "TALK"]}
    record = AppRecord(
        "words", "1.0.0", "Words", place, 9030, Secret("12345"), State.DISABLED, options=scopes
    )

    async def add() -> None:
        async with await Registry.open(tmp_path / REGISTRY_FILE) as registry:
            await registry.add_app(record)

    anyio.run(add)
    return record.app_id


# Daemons


def deploy_config(occ: Occ) -> dict[str, object]:
    out, _, code = occ("app_api:daemon:list", "--output=json")
    assert code == 0
    return dict(json.loads(out[0])[0]["deploy_config"])


def test_registry_mappings_are_added_listed_and_removed(occ: Occ) -> None:
    occ("app_api:daemon:register", *MANUAL)
    name = "app_api:daemon:registry"
    assert occ(f"{name}:list", "manual")[::2] == (
        ['No registries configured for daemon "manual".'],
        0,
    )
    pair = ("--registry-from", "ghcr.io", "--registry-to=localhost:5000")
    assert occ(f"{name}:add", "manual", *pair) == (
        ['Added registry mapping "ghcr.io" -> "localhost:5000" to daemon "manual".'],
        [],
        0,
    )
    assert deploy_config(occ)["registries"] == [{"from": "ghcr.io", "to": "localhost:5000"}]
    assert occ(f"{name}:add", "manual", *pair)[::2] == (
        ['Error adding Docker registry: This Docker registry map from "ghcr.io" already exists'],
        1,
    )
    same = ("--registry-from", "a", "--registry-to", "a")
    assert occ(f"{name}:add", "manual", *same)[::2] == (
        ["Error adding Docker registry: The source and target registry cannot be the same"],
        1,
    )
    assert occ(f"{name}:remove", "manual", *same)[::2] == (
        ["Error adding Docker registry: This Docker registry map does not exist"],
        1,
    )
    assert occ(f"{name}:remove", "manual", *pair)[::2] == (
        ['Removed registry mapping from "ghcr.io" to "localhost:5000" for daemon "manual".'],
        0,
    )
    assert occ(f"{name}:remove", "manual")[::2] == (
        ['No registries configured for daemon "manual".'],
        0,
    )


@pytest.mark.parametrize("verb", ["add", "remove", "list"])
def test_registry_commands_need_a_daemon(occ: Occ, verb: str) -> None:
    found = occ(f"app_api:daemon:registry:{verb}", "nope")
    assert found == (["Daemon config not found."], [], 1)


def test_registry_mapping_needs_both_sides(occ: Occ) -> None:
    occ("app_api:daemon:register", *MANUAL)
    found = occ("app_api:daemon:registry:add", "manual", "--registry-to", "x")
    assert found[::2] == (["Registry URL pair (from -> to) is required."], 1)


def test_files_of_a_tls_engine_are_stored_with_their_whole_path(
    occ: Occ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    files = ("--tls-ca", "ca.pem", "--tls-cert", "cert.pem", "--tls-key", "/k/key.pem")
    assert occ("app_api:daemon:register", *ENGINE, *files)[2] == 0
    assert deploy_config(occ)["tls"] == {
        "ca": str(tmp_path / "ca.pem"),
        "cert": str(tmp_path / "cert.pem"),
        "key": "/k/key.pem",
    }


def test_folder_with_certificates_is_that_of_the_environment_if_none_is_named(
    occ: Occ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("named", "usual"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ca.pem").touch()
    (tmp_path / "named" / "key.pem").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "usual"))
    found = occ("app_api:daemon:register", *ENGINE)
    assert found[1][0] == f"The certificates are those of DOCKER_CERT_PATH: {tmp_path / 'usual'}."
    assert deploy_config(occ)["tls"] == {"ca": str(tmp_path / "usual" / "ca.pem")}
    occ("app_api:daemon:unregister", "engine")
    occ("app_api:daemon:register", *ENGINE, "--tls-dir", "named", "--tls-ca", "other.pem")
    assert deploy_config(occ)["tls"] == {
        "ca": str(tmp_path / "other.pem"),
        "key": str(tmp_path / "named" / "key.pem"),
    }
    occ("app_api:daemon:unregister", "engine")
    occ("app_api:daemon:register", *ENGINE, "--haproxy_password", "secret-word")
    assert "tls" not in deploy_config(occ)
    occ("app_api:daemon:unregister", "engine")
    occ("app_api:daemon:register", *MANUAL)
    assert "tls" not in deploy_config(occ)


def test_limits_and_names_of_images_are_stored_as_appapi_has_them(occ: Occ) -> None:
    more = ("--memory", "512m", "--cpus", "1.5", "--no-name-suffix")
    occ("app_api:daemon:register", *ENGINE, *more)
    config = deploy_config(occ)
    assert config["resourceLimits"] == {"memory": 536870912, "nanoCPUs": 1500000000}
    assert config["name_suffix"] is False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tls-cert", "c.pem"), "Value error: `tls-cert` and `tls-key` must be given together."),
        (("--memory", "much"), "Value error: `memory`: 'much' is no size"),
        (("--memory", "1.5m"), "Value error: `memory`: '1.5m' is no size"),
        (("--cpus", "nan"), "Value error: `cpus`: 'nan' is no number of processors"),
        (("--tls-dir", "/no/where"), "Failed to register daemon."),
    ],
)
def test_option_that_cannot_be_is_refused(occ: Occ, words: tuple[str, str], said: str) -> None:
    printed, _, code = occ("app_api:daemon:register", *ENGINE, *words)
    assert printed[0].startswith(said)
    assert code == 1
    assert occ("app_api:daemon:list")[0] == ["No registered daemon configs."]


def test_certificates_without_tls_are_refused(occ: Occ) -> None:
    found = occ("app_api:daemon:register", *MANUAL, "--tls-ca", "ca.pem")
    assert found[::2] == (["Value error: certificates need the protocol `https`."], 1)


@pytest.mark.parametrize(
    ("text", "size"), [("7", 7), ("7b", 7), ("2k", 2048), ("2Kb", 2048), ("3M", 3 << 20)]
)
def test_sizes_are_read_as_by_the_docker_command(text: str, size: int) -> None:
    assert parse_size(text) == size


# Configuration


def test_a_value_is_set_once_and_changed_when_asked_to(occ: Occ, app: str) -> None:
    name = "app_api:app:config"
    assert occ(f"{name}:get", app, "k") == ([f"ExApp {app} config k not found"], [], 1)
    assert occ(f"{name}:set", app, "k", "--update-only", "--value", "v")[::2] == (
        [f"ExApp {app} config k not found"],
        1,
    )
    assert occ(f"{name}:set", app, "k", "--value", "v") == (
        [f"ExApp {app} config k set to v"],
        [],
        0,
    )
    assert occ(f"{name}:set", app, "k", "--value", "w")[::2] == (
        [f"ExApp {app} config k already exists. Use --update-only flag."],
        1,
    )
    assert occ(f"{name}:set", app, "k", "--value", "w", "--update-only")[2] == 0
    assert occ(f"{name}:get", app, "k", "--default-value", "d") == (["w"], [], 0)
    assert occ(f"{name}:delete", app, "k") == ([f"ExApp {app} config k deleted."], [], 0)
    assert occ(f"{name}:get", app, "k", "--default-value", "d") == (["d"], [], 0)


def test_a_sensitive_value_is_encrypted_at_rest_and_printed_only_by_get(
    occ: Occ, app: str, tmp_path: Path
) -> None:
    name, text = "app_api:app:config", "very/hümmel"
    assert occ(f"{name}:set", app, "k", "--value", text, "--sensitive", "1")[0] == [
        f"ExApp {app} config k set to *** [sensitive]"
    ]
    stored = b"".join(path.read_bytes() for path in tmp_path.glob(f"{REGISTRY_FILE}*"))
    assert b"words" in stored
    assert b"mmel" not in stored
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert occ(f"{name}:get", app, "k")[0] == [text]
    # Without a value for the option, sensitivity stays as it is.
    occ(f"{name}:set", app, "k", "--value", "other/é", "--update-only")
    occ(f"{name}:set", app, "open", "--value", "a/é")
    hidden = "***REMOVED SENSITIVE VALUE***"
    for option, shown in ((), hidden), (("--private",), "a\\/\\u00e9"):
        assert occ(f"{name}:list", app, *option)[0] == [
            f"ExApp {app} configs:",
            "{",
            f'    "{app}": {{',
            f'        "k": "{hidden}",',
            f'        "open": "{shown}"',
            "    }",
            "}",
        ]


def test_sensitive_without_a_value_is_stored_in_clear_and_that_is_said(occ: Occ, app: str) -> None:
    name = "app_api:app:config"
    said = ["stored in clear: --sensitive alone means nothing, --sensitive 1 encrypts"]
    lines = [f"ExApp {app} config k set to v"]
    assert occ(f"{name}:set", app, "k", "--value", "v", "--sensitive") == (lines, said, 0)
    assert occ(f"{name}:set", app, "k", "--value", "v", "--update-only") == (lines, [], 0)
    occ(f"{name}:set", app, "k", "--value", "v", "--update-only", "--sensitive", "1")
    hidden = [f"ExApp {app} config k set to *** [sensitive]"]
    again = occ(f"{name}:set", app, "k", "--value", "v", "--update-only", "--sensitive")
    assert again == (hidden, [], 0)


def test_list_without_values_is_an_empty_list(occ: Occ, app: str) -> None:
    assert occ("app_api:app:config:list", app)[0] == [f"ExApp {app} configs:", "[]"]


@pytest.mark.parametrize(
    ("verb", "words", "line"),
    [
        ("get", ("k",), "ExApp nope not found."),
        ("set", ("k", "--value", "v"), "ExApp nope not found"),
        ("delete", ("k",), "ExApp nope not found."),
        ("list", (), "ExApp nope not found."),
    ],
)
def test_configuration_belongs_to_a_registered_app(
    occ: Occ, verb: str, words: tuple[str, ...], line: str
) -> None:
    assert occ(f"app_api:app:config:{verb}", "nope", *words) == ([line], [], 1)


# What upstream removed


def test_users_of_an_app_are_all_that_are_enabled(occ: Occ, app: str, tmp_path: Path) -> None:
    async def add() -> None:
        async with await Registry.open(tmp_path / REGISTRY_FILE) as registry:
            await Users(registry).create_defaults(loopback=True)

    anyio.run(add)
    occ("user:disable", "user")
    out, err, code = occ("app_api:app:users:list", app)
    assert (out, code) == ([f"ExApp {app} users:", "admin"], 0)
    assert "since 3.0.0" in err[0]


def test_scopes_of_an_app_are_what_it_declares(occ: Occ, app: str) -> None:
    out, err, code = occ("app_api:app:scopes:list", app)
    assert (out, code) == ([f"ExApp {app} scopes:", "FILES", "TALK"], 0)
    assert "3.2.0" in err[0]
    out, err, code = occ("app_api:scopes:list")
    assert (out, code) == (["Scopes:"], 0)
    assert "2.4.0" in err[0]


@pytest.mark.parametrize("what", ["users", "scopes"])
def test_removed_lists_need_a_registered_app(occ: Occ, what: str) -> None:
    assert occ(f"app_api:app:{what}:list", "nope") == (["ExApp nope not found."], [], 1)


# Users and groups


def test_a_user_is_added_shown_and_deleted(occ: Occ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OC_PASS", "right horse")
    words = ("--display-name=Alice A.", "-g", "staff", "--group", "admin", "alice")
    assert occ("user:add", "--password-from-env", *words) == (
        [
            'The account "alice" was created successfully',
            'Display name set to "Alice A."',
            'Created group "staff"',
            'Account "alice" added to group "staff"',
            'Account "alice" added to group "admin"',
        ],
        [],
        0,
    )
    assert occ("user:add", "--password-from-env", "alice")[::2] == (
        ['The account "alice" already exists.'],
        1,
    )
    assert occ("user:list")[0] == ["  - alice: Alice A."]
    assert occ("user:list", "--output=json")[0] == ['{"alice": "Alice A."}']
    assert occ("user:list", "--disabled")[0] == []
    assert occ("user:info", "alice")[0] == [
        "  - user_id: alice",
        "  - display_name: Alice A.",
        "  - enabled: true",
        "  - groups:",
        "    - admin",
        "    - staff",
        "  - backend: Database",
    ]
    assert json.loads("".join(occ("user:info", "alice", "--output=json_pretty")[0])) == {
        "user_id": "alice",
        "display_name": "Alice A.",
        "enabled": True,
        "groups": ["admin", "staff"],
        "backend": "Database",
    }
    assert occ("group:list")[0] == ["  - admin:", "    - alice", "  - staff:", "    - alice"]
    assert occ("user:delete", "alice") == (["The specified account was deleted"], [], 0)
    assert occ("user:delete", "alice") == (["User does not exist"], [], 1)


async def signed_in(path: Path, user_id: str, password: str) -> bool:
    async with await Registry.open(path / REGISTRY_FILE) as registry:
        return await Users(registry).authenticate(user_id, password) is not None


def test_a_user_signs_in_with_the_password_of_the_environment(
    occ: Occ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NC_PASS", "right horse")
    occ("user:add", "--password-from-env", "alice")
    assert anyio.run(signed_in, tmp_path, "alice", "right horse")
    assert not anyio.run(signed_in, tmp_path, "alice", "alice")
    occ("user:disable", "alice")
    assert not anyio.run(signed_in, tmp_path, "alice", "right horse")
    assert occ("user:list", "--disabled")[0] == ["  - alice: alice"]
    assert occ("user:enable", "alice") == (["The specified user is enabled"], [], 0)
    assert anyio.run(signed_in, tmp_path, "alice", "right horse")


def test_a_user_needs_a_password_and_a_usable_name(
    occ: Occ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NC_PASS", raising=False)
    monkeypatch.delenv("OC_PASS", raising=False)
    assert occ("user:add", "alice", "-n")[::2] == (
        ["Interactive input or --password-from-env is needed for entering a password!"],
        1,
    )
    assert occ("user:add", "alice", "--password-from-env")[::2] == (
        ["--password-from-env given, but NC_PASS/OC_PASS is empty!"],
        1,
    )
    out, _, code = occ("user:add", "a/b", "--password-from-env")
    assert code == 1
    assert out[0].startswith("Error: Only the following characters")


def test_groups_are_made_once_and_take_known_users(
    occ: Occ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OC_PASS", "right horse")
    occ("user:add", "--password-from-env", "alice")
    assert occ("group:add", "staff", "--display-name", "Staff") == (
        ['Created group "staff"'],
        [],
        0,
    )
    assert occ("group:add", "staff") == (['Group "staff" already exists.'], [], 1)
    assert occ("group:adduser", "staff", "alice") == ([], [], 0)
    assert occ("group:adduser", "staff", "bob") == (["user not found"], [], 1)
    assert occ("group:adduser", "nope", "alice") == (["group not found"], [], 1)
    assert occ("group:list", "--output", "json")[0] == ['{"admin": [], "staff": ["alice"]}']


def test_nobody_is_shown_enabled_or_disabled_who_is_not_there(occ: Occ) -> None:
    assert occ("user:info", "bob") == (["user not found"], [], 1)
    assert occ("user:enable", "bob") == (["User does not exist"], [], 1)


@pytest.mark.parametrize("words", [("user:list",), ("user:info", "a"), ("group:list",)])
def test_output_is_one_of_three(occ: Occ, words: tuple[str, ...]) -> None:
    _, err, code = occ(*words, "--output=xml")
    assert code == 1
    assert "--output must be plain, json or json_pretty." in err[1]


def test_ctrl_c_before_a_command_can_see_to_it_ends_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("appapi_host.cli.check.check", interrupted)
    assert main(["check", "."]) == 130
    assert "".join(capsys.readouterr()).strip() == ""
