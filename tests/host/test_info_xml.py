"""What apps say about themselves, well and badly."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from appapi_host.errors import InfoError
from appapi_host.info_xml import (
    AppInfo,
    DockerInstall,
    EnvironmentVariable,
    ServiceRole,
    load_xml,
)
from appapi_host.records import AccessLevel, Route

# The complete example of the specification.
COMPLETE = """<?xml version="1.0"?>
<info>
  <id>notes_ai</id><name>Notes AI</name><version>1.4.0</version>
  <external-app>
    <docker-install>
      <registry>ghcr.io</registry>
      <image>acme/notes_ai</image>
      <image-tag>1.4.0</image-tag>
    </docker-install>
    <environment-variables>
      <variable>
        <name>MODEL</name><display-name>Model</display-name><default>small</default>
      </variable>
      <variable><name>HF_TOKEN</name><description>From their site</description></variable>
    </environment-variables>
    <routes>
      <route>
        <url>^/ui/.*</url>
        <verb>GET</verb>
        <access_level>USER</access_level>
        <bruteforce_protection>[401, 429]</bruteforce_protection>
        <headers_to_exclude>["X-Internal"]</headers_to_exclude>
      </route>
      <route><url>^/public$</url><verb>GET,POST</verb><access_level>PUBLIC</access_level></route>
    </routes>
    <k8s-service-roles>
      <role>
        <name>web</name><display-name>Web</display-name>
        <env>APP_ROLE=web</env><expose>true</expose>
      </role>
      <role><name>worker</name></role>
    </k8s-service-roles>
  </external-app>
</info>
"""
MINIMAL = "<id>a</id><name>A</name><version>1.0.0</version>"
# The line of the seed that our user gave us, as a shell hands it on.
SEED = (
    '{"id":"nc_py_api","name":"nc_py_api","daemon_config_name":"manual_install","version":"1.0.0",'
    '"secret":"12345","port":9031,"scopes":["SYSTEM", "FILES", "FILES_SHARING", "USER_INFO",'
    ' "USER_STATUS", "NOTIFICATIONS", "WEATHER_STATUS", "TALK"],"system":1}'
)


def xml(inside: str, *, external: str = "", head: str = MINIMAL) -> AppInfo:
    text = f"<info>{head}{inside}<external-app>{external}</external-app></info>"
    return AppInfo.from_xml(text.encode(), "info.xml")


def from_json(**values: Any) -> AppInfo:
    return AppInfo.from_json(json.dumps({"name": "A", "version": "1.0.0", **values}), app_id="a")


def routes(inside: str) -> AppInfo:
    return xml("", external=f"<routes>{inside}</routes>")


def variables(inside: str) -> AppInfo:
    inside = f"<environment-variables>{inside}</environment-variables>"
    return xml("", external=inside)


def test_a_complete_file_is_read_completely() -> None:
    info = AppInfo.from_xml(COMPLETE.encode(), "info.xml")
    assert info == AppInfo(
        id="notes_ai",
        name="Notes AI",
        version="1.4.0",
        docker_install=DockerInstall("ghcr.io", "acme/notes_ai", "1.4.0"),
        environment_variables={
            "MODEL": EnvironmentVariable("MODEL", "Model", "", "small", "small"),
            "HF_TOKEN": EnvironmentVariable("HF_TOKEN", "", "From their site"),
        },
        routes=(
            Route("^/ui/.*", "GET", AccessLevel.USER, ("X-Internal",), (401, 429)),
            Route("^/public$", "GET,POST", AccessLevel.PUBLIC),
        ),
        service_roles=(
            ServiceRole("web", "Web", "APP_ROLE=web", expose=True),
            ServiceRole("worker", "worker"),
        ),
    )
    assert list(info.environment_variables) == ["MODEL", "HF_TOKEN"]


def test_what_is_missing_gets_the_defaults_of_appapi() -> None:
    info = AppInfo.from_xml(f"<info>{MINIMAL}</info>".encode(), "info.xml")
    assert info.docker_install == DockerInstall("docker.io", "a", "latest")
    assert (info.port, info.secret, info.routes, info.warnings) == (None, None, (), ())


def test_port_secret_and_daemon_may_be_in_xml_too() -> None:
    info = xml("<port>9031</port><secret>s</secret><daemon_config_name>d</daemon_config_name>")
    assert info.port == 9031
    assert info.secret
    assert info.secret.reveal() == "s"
    assert info.daemon_config_name == "d"
    assert "reveal" not in repr(info)


def test_old_keys_are_read_and_nothing_follows() -> None:
    info = xml("<system>1</system><scopes><value>FILES</value><value>TALK</value></scopes>")
    assert info.scopes == ("FILES", "TALK")
    assert info.system
    assert not xml("<system>false</system><scopes/>").system


def test_the_json_of_the_seed_registers_as_it_stands() -> None:
    info = AppInfo.from_json(SEED, app_id="nc_py_api")
    assert (info.id, info.name, info.version) == ("nc_py_api", "nc_py_api", "1.0.0")
    assert (info.port, info.daemon_config_name) == (9031, "manual_install")
    assert info.secret
    assert info.secret.reveal() == "12345"
    assert "12345" not in repr(info)
    assert info.scopes[0] == "SYSTEM"
    assert len(info.scopes) == 8
    assert info.system
    assert info.warnings == ()


def test_json_says_the_same_at_its_root_or_below_external_app() -> None:
    parts: dict[str, Any] = {
        "docker-install": {"registry": "ghcr.io", "image": "acme/a", "image-tag": "2"},
        "routes": [
            {
                "url": "^/api/.*",
                "verb": "GET",
                "access_level": 1,
                "bruteforce_protection": [401],
                "headers_to_exclude": ["X-Internal"],
            },
            {"url": "^/b", "verb": "GET", "access_level": "ADMIN"},
        ],
        "environment-variables": {"variable": [{"name": "MODEL", "default": "small"}]},
        "k8s-service-roles": [{"name": "web", "expose": "false"}],
        "translations_folder": "/l10n",
    }
    at_root = from_json(**parts)
    below = from_json(**{"external-app": parts})
    assert at_root == below
    assert at_root.routes[0] == Route("^/api/.*", "GET", AccessLevel.USER, ("X-Internal",), (401,))
    assert at_root.routes[1].access_level is AccessLevel.ADMIN
    assert at_root.translations_folder == "/l10n"
    assert not at_root.service_roles[0].expose
    both = from_json(**{**parts, "external-app": {"routes": []}})
    assert both.routes == at_root.routes, "the root wins"


def test_the_command_names_an_app_whose_json_does_not() -> None:
    assert from_json(appid="old spelling").id == "a"
    assert from_json(id="b").id == "b"


def test_numbers_may_be_texts_and_texts_numbers_in_json() -> None:
    info = from_json(port="9031", version=2, name=7)
    assert (info.port, info.version, info.name) == (9031, "2", "7")
    assert from_json(port="").port is None
    assert from_json(name="").name == ""


@pytest.mark.parametrize(
    "value",
    [
        {"variable": {"name": "A", "default": 5}},
        {"variable": [{"name": "A", "default": "old"}, {"name": "A", "default": "5"}]},
        [{"name": "A", "default": "5"}],
        {"A": {"value": "5", "default": "5"}},
    ],
)
def test_variables_come_in_several_forms(value: object) -> None:
    found = from_json(**{"environment-variables": value}).environment_variables
    assert found == {"A": EnvironmentVariable("A", "", "", "5", "5")}


def test_variables_in_the_stored_form_keep_their_value() -> None:
    stored = {"A": {"value": "given", "default": "", "displayName": "An A"}, "B": {"default": []}}
    found = from_json(**{"environment-variables": stored}).environment_variables
    assert found["A"] == EnvironmentVariable("A", "An A", "", "", "given")
    assert found["B"] == EnvironmentVariable("B")


def test_values_may_have_several_lines() -> None:
    found = from_json(**{"environment-variables": [{"name": "A", "default": "x\ny"}]})
    assert found.environment_variables["A"].value == "x\ny"


def test_mounts_are_kept_where_json_has_them() -> None:
    mounts = [
        {"source": "/srv/models", "target": "/models", "mode": "ro"},
        {"source": "/srv/x", "target": "/x"},
    ]
    info = from_json(**{"external-app": {"mounts": mounts}})
    assert info.mounts == (("/srv/models", "/models", "ro"), ("/srv/x", "/x", "rw"))


# What AppAPI reads differently is read sensibly, and said.


@pytest.mark.parametrize(
    ("inside", "value", "warning"),
    [
        ("<image-tag><![CDATA[1.0]]></image-tag>", "1.0", "CDATA"),
        ("<image-tag>\n 1.0 \n</image-tag>", "1.0", "white space"),
        ("<image-tag></image-tag>", "latest", None),
        ("<image-tag> </image-tag>", "latest", None),
        ("<image-tag>1.0<!-- why --></image-tag>", "1.0", None),
        ("<image-tag>1.0</image-tag><image-tag>2.0</image-tag>", "1.0", "given again"),
    ],
)
def test_texts_are_taken_without_what_surrounds_them(
    inside: str, value: str, warning: str | None
) -> None:
    info = xml("", external=f"<docker-install>{inside}</docker-install>")
    assert info.docker_install.image_tag == value
    assert [warning in text for text in info.warnings if warning] == [True] * bool(warning)
    assert len(info.warnings) == bool(warning)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ('<name lang="de">Notizen</name><name>Notes</name>', "Notes"),
        ('<name lang="de">Notizen</name><name lang="en">Notes</name>', "Notes"),
        ('<name xml:lang="de">Notizen</name><name xml:lang="en">Notes</name>', "Notes"),
        ('<name lang="de">Notizen</name><name lang="fr">Cahier</name>', "Notizen"),
    ],
)
def test_of_several_names_the_one_without_language_counts(names: str, expected: str) -> None:
    info = xml("", head=f"<id>a</id>{names}<version>1.0.0</version>")
    assert info.name == expected
    assert "several <name>" in info.warnings[0]


@pytest.mark.parametrize(
    ("info", "warning"),
    [
        (lambda: variables("<variable><name>A</name><default/></variable>"), "'Array'"),
        (lambda: xml("<category>nonsense</category>"), "no category 'nonsense'"),
        (lambda: xml("", head="<id>a</id><name>A</name><version>one</version>"), "not semantic"),
        (lambda: from_json(name="n" * 65), "more than 64 characters"),
        (
            lambda: routes(
                "<route><url>.*</url><verb>GET</verb><access_level>USER</access_level></route>"
            ),
            "opens everything to USER",
        ),
        (
            lambda: routes(
                r"<route><url>^\/?(tri|en|set_).*</url><verb>POST</verb>"
                "<access_level>PUBLIC</access_level></route>"
            ),
            "matches /enabled, /trigger, which only the host should call; AppAPI lets PUBLIC",
        ),
        (
            lambda: routes(
                "<route><url>^/(</url><verb>GET</verb><access_level>USER</access_level></route>"
            ),
            "no regular expression",
        ),
        (lambda: AppInfo.from_xml(f"<app>{MINIMAL}</app>".encode(), "x"), "should be <info>"),
    ],
)
def test_harmless_things_are_warnings(info: Any, warning: str) -> None:
    texts = info().warnings
    assert len(texts) == 1
    assert warning in texts[0]


def test_what_is_fine_is_not_warned_about() -> None:
    assert not xml("<category>ai</category>").warnings
    level = "<access_level>ADMIN</access_level>"
    assert not routes(f"<route><url>.*</url><verb>GET</verb>{level}</route>").warnings


def test_a_namespace_and_another_encoding_make_no_difference() -> None:
    text = f'<info xmlns="http://example.org">{MINIMAL.replace("A", "Ä")}</info>'
    assert AppInfo.from_xml(text.encode(), "x").name == "Ä"
    assert AppInfo.from_xml(text.encode("utf-8-sig"), "x").name == "Ä"
    assert AppInfo.from_xml(('<?xml version="1.0"?>' + text).encode("utf-16"), "x").name == "Ä"
    assert AppInfo.from_xml(text.encode("utf-16"), "x").name == "Ä"
    latin = f'<?xml version="1.0" encoding="ISO-8859-1"?>{text}'
    assert AppInfo.from_xml(latin.encode("latin-1"), "x").name == "Ä"


# What cannot be used


def refusal(read: Any, *arguments: Any, **keywords: Any) -> InfoError:
    with pytest.raises(InfoError) as caught:
        read(*arguments, **keywords)
    return caught.value


def test_every_problem_is_reported_at_once_with_line_and_example() -> None:
    text = """<info>
  <id>../evil</id>
  <port>99999</port>
  <external-app>
    <routes>
      <route>
        <url><b/></url>
        <access_level>user</access_level>
        <bruteforce_protection><status>401</status></bruteforce_protection>
        <headers_to_exclude>X-Internal</headers_to_exclude>
      </route>
    </routes>
    <environment-variables>
      <variable><description>no name</description></variable>
      <variable><name>A=B</name></variable>
      <variable><name><b/></name></variable>
    </environment-variables>
    <k8s-service-roles><role/></k8s-service-roles>
  </external-app>
</info>"""
    error = refusal(AppInfo.from_xml, text.encode(), "info.xml")
    assert error.kind == "routes"
    assert error.headline.startswith("ExApp '../evil' has invalid route definition. line ")
    assert error.problems == (
        "<name> is missing; right is for example <name>My app</name>",
        "<version> is missing; right is for example <version>1.0.0</version>",
        (
            "line 2: <id> is '../evil': it must be 1 to 32 letters, digits, '_', '-' or '.';"
            " right is for example <id>my_app</id>"
        ),
        (
            "line 3: <port> is '99999': it must be a whole number, 1 to 65535;"
            " right is for example <port>9031</port>"
        ),
        (
            "line 6: route 0: <verb> must be a text that is not blank;"
            " right is for example <verb>GET,POST</verb>"
        ),
        "line 7: <url> must hold text, not elements",
        (
            "line 8: route 0: <access_level> is 'user': it must be one of PUBLIC, USER, ADMIN;"
            " right is for example <access_level>USER</access_level>"
        ),
        (
            "line 9: <bruteforce_protection> must hold text, not elements, a JSON list;"
            " right is for example <bruteforce_protection>[401, 429]</bruteforce_protection>"
        ),
        (
            "line 10: route 0: <headers_to_exclude> must be a JSON list of texts;"
            ' right is for example <headers_to_exclude>["X-Internal"]</headers_to_exclude>'
        ),
        (
            "line 14: environment variable 0: <name> must be a text that is not blank, without '=';"
            " right is for example <name>MODEL</name>"
        ),
        (
            "line 15: environment variable 1: <name> must be a text that is not blank, without '=';"
            " right is for example <name>MODEL</name>"
        ),
        "line 16: <name> must hold text, not elements",
        "line 18: a role of <k8s-service-roles> has no name; right is for example <name>web</name>",
    )
    assert "info.xml: <name> is missing" in str(error)


@pytest.mark.parametrize(
    ("values", "kind", "problem"),
    [
        ({"id": [5]}, "content", '"id" is'),
        ({"id": "."}, "content", "\"id\" is '.'"),
        ({"id": "x" * 33}, "content", '"id" is'),
        ({"id": "a/../b"}, "content", '"id" is'),
        ({"name": None}, "content", '"name" is missing'),
        ({"name": ["A"]}, "content", '"name" must be a text'),
        ({"name": "A\nB"}, "content", '"name" holds a character'),
        ({"name": "\ud800"}, "content", '"name" holds a character'),
        ({"version": ""}, "content", '"version" is missing'),
        ({"version": "1.0\r\nX-Evil: 1"}, "content", '"version" holds a character'),
        ({"version": "1.ö"}, "content", "only ASCII"),
        ({"port": True}, "content", '"port" is'),
        ({"port": 0}, "content", '"port" is'),
        ({"port": [1]}, "content", '"port" is'),
        ({"docker-install": "x"}, "content", '"docker-install" must be an object'),
        ({"routes": {"route": []}}, "routes", '"routes" must be a list'),
        ({"routes": ["x"]}, "routes", "route 0 must be an object"),
        ({"routes": [{"url": " "}]}, "routes", 'route 0: "url" must be a text'),
        ({"environment-variables": 5}, "environment", "must be an object or a list"),
        ({"environment-variables": {"variable": "x"}}, "environment", "an object or a list"),
        ({"environment-variables": ["x"]}, "environment", "variable 0 must be an object"),
        (
            {"environment-variables": [{"name": "A", "default": {}}]},
            "environment",
            '"default" must be a text',
        ),
        (
            {"environment-variables": [{"name": "A", "default": "x\0"}]},
            "environment",
            '"default" holds a character',
        ),
        ({"external-app": {"mounts": [{"source": "/x"}]}}, "content", "source and target"),
        ({"k8s-service-roles": ["x"]}, "content", "has no name"),
    ],
)
def test_each_mistake_in_json_is_named(values: Mapping[str, Any], kind: str, problem: str) -> None:
    error = refusal(from_json, **values)
    assert error.kind == kind
    assert any(problem in text for text in error.problems), error.problems
    assert bool(error.headline) == (kind != "content")


@pytest.mark.parametrize("level", ["2", "user", 3, -1, True, None, 1.0, [1]])
def test_access_levels_are_names_or_numbers_and_nothing_else(level: object) -> None:
    error = refusal(from_json, routes=[{"url": "^/", "verb": "GET", "access_level": level}])
    assert len(error.problems) == 1
    assert "route '^/': \"access_level\" is" in error.problems[0]


@pytest.mark.parametrize("listed", ["[401", [True], ["401"], {"a": 1}, "5", 5, "[" * 100_000])
def test_bruteforce_protection_is_a_list_of_whole_numbers(listed: object) -> None:
    route = {"url": "^/", "verb": "GET", "access_level": 1, "bruteforce_protection": listed}
    error = refusal(from_json, routes=[route])
    assert "must be a JSON list of whole numbers" in error.problems[0]


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "null", "0", '""', "[1]", "[" * 100_000])
def test_json_that_is_no_object_has_the_line_of_occ(text: str) -> None:
    error = refusal(AppInfo.from_json, text, app_id="a")
    assert error.kind == "json"
    assert error.headline == "Invalid app info provided in JSON format"
    assert error.remedy


def test_a_secret_is_in_no_message() -> None:
    error = refusal(from_json, secret="hush\n", port="hush?", name=None)
    assert "hush\n" not in "".join(error.problems)
    assert any('"secret" holds a character' in text for text in error.problems)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"hello", "does not begin with '<'"),
        ("<?xml version='1.0'?><info/>".encode("cp037"), "does not begin with '<'"),
        (b"<info/>hello", "Extra content"),
        (b"<info><id>a</info>", "line 1: Opening and ending tag mismatch"),
        (b"<info>&undefined;</info>", "Entity 'undefined' not defined"),
        (b"\0\0\0<\0\0\0a", "zero bytes"),
        (b"\xff\xfe<\xd8", "UTF-16"),
        (b"<info>\xff</info>", "line 1"),
        (b'<?xml version="1.0" encoding="UTF-7"?><info/>', "encoding 'UTF-7'"),
        (b"<!DOCTYPE html><html/>", "document type"),
        (b"<html><body/></html>", "web page"),
        (b"<info>" + b"x" * 1024 * 1024 + b"</info>", "larger than"),
        (b"<info>" + b"<a>" * 100_000, "depth"),
        (b"<!-- never closed", "line 1"),
        (b"<?pi never closed", "line 1"),
    ],
)
def test_what_is_no_xml_has_the_line_of_occ(data: bytes, problem: str) -> None:
    error = refusal(AppInfo.from_xml, data, "./broken.xml")
    assert error.kind == "load"
    assert error.headline == "Failed to load info.xml from ./broken.xml"
    assert problem in error.problems[0]
    assert error.remedy


def test_no_document_type_is_ever_looked_at(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush")
    bomb = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    for head in (
        f'<!DOCTYPE info [<!ENTITY e0 "ha">{bomb}]>',
        f'<!DOCTYPE info [<!ENTITY x SYSTEM "file://{secret}">]>',
        f'<!DOCTYPE info SYSTEM "file://{secret}">',
        '\n<?pi?><!-- <info> -->\n <!DOCTYPE info SYSTEM "http://127.0.0.1:9/">',
    ):
        text = f"{head}<info><id>&x;&e9;</id></info>"
        for data in (text.encode(), text.encode("utf-16")):
            error = refusal(AppInfo.from_xml, data, "x")
            assert "document type" in error.problems[0]
            assert "hush" not in str(error)


def test_a_document_type_in_prose_is_only_prose() -> None:
    info = xml("<description><![CDATA[write <!DOCTYPE html> first]]></description>")
    assert info.id == "a"


@pytest.mark.parametrize(
    "data",
    [
        b"<info>" + b"<a/>" * 250_000 + b"</info>",
        b"<info>" + b"<id/>" * 200_000 + b"</info>",
        b"<info>" + b"<name>n</name>" * 70_000 + b"</info>",
        b"<info><external-app><routes>"
        + b"<route/>" * 120_000
        + b"</routes></external-app></info>",
        b"<info><scopes>" + b"<value>x</value>" * 60_000 + b"</scopes></info>",
        b"<info " + b" ".join(b"a%d='1'" % n for n in range(80_000)) + b"/>",
        b"<info>" + b"<!-- -->" * 120_000 + b"</info>",
        b"<info><id>" + b"&amp;" * 200_000 + b"</id></info>",
    ],
)
def test_a_file_full_of_rubbish_is_refused_quickly_and_briefly(data: bytes) -> None:
    begin = time.process_time()
    error = refusal(AppInfo.from_xml, data, "x")
    # Ten times of what it takes, because a machine that runs tests does more than that.
    assert time.process_time() - begin < 1.0
    assert len(error.problems) <= 51
    assert sum(map(len, error.problems)) < 20_000


def test_problems_beyond_the_first_fifty_are_counted() -> None:
    error = refusal(from_json, routes=["x"] * 60)
    assert len(error.problems) == 51
    assert error.problems[-1] == "and 10 more"


def test_a_folder_is_read_by_its_info(tmp_path: Path) -> None:
    (tmp_path / "appinfo").mkdir()
    (tmp_path / "appinfo" / "info.xml").write_text(COMPLETE)
    info = AppInfo.from_folder(tmp_path)
    assert info == AppInfo.from_xml(COMPLETE.encode(), "x")
    assert load_xml(str(tmp_path / "appinfo" / "info.xml")) == info


def test_a_folder_without_info_says_what_it_should_have(tmp_path: Path) -> None:
    error = refusal(AppInfo.from_folder, tmp_path)
    assert error.kind == "read"
    assert error.problems == ("there is no appinfo/info.xml in it",)
    assert error.headline == f"Failed to read info.xml from {tmp_path / 'appinfo' / 'info.xml'}"
    missing = refusal(AppInfo.from_folder, tmp_path / "missing")
    assert missing.problems == ("there is no such folder",)


@pytest.mark.parametrize("source", ["./missing.xml", "/", "a\0b"])
def test_a_file_that_cannot_be_read_has_the_line_of_occ(source: str) -> None:
    error = refusal(load_xml, source)
    assert error.kind == "read"
    assert error.headline == f"Failed to read info.xml from {source}"
