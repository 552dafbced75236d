"""The environment of an ExApp. Source: AppAPI documentation, Deploy env variables."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exapp_sdk.errors import ConfigError
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.environ import EXAMPLE, Settings

MINIMAL = {
    "APP_ID": "my_app",
    "APP_SECRET": "s3cr3t",
    "APP_VERSION": "1.0.0",
    "NEXTCLOUD_URL": "https://cloud.example/index.php/",
}
FULL = MINIMAL | {
    "AA_VERSION": "33.0.1",
    "APP_HOST": "0.0.0.0",
    "APP_PORT": "23000",
    "APP_DISPLAY_NAME": "My App",
    "APP_PERSISTENT_STORAGE": "/nc_app_my_app_data",
    "COMPUTE_DEVICE": "CUDA",
}


def test_four_variables_are_enough() -> None:
    settings = Settings.from_environ(MINIMAL)
    assert settings.app_secret == Secret("s3cr3t")
    assert settings.nextcloud_url == "https://cloud.example"
    assert settings.app_display_name == "my_app"
    assert (settings.app_host, settings.app_port) == ("127.0.0.1", 0)
    assert settings.compute_device == "cpu"
    assert settings.persistent_storage is None
    assert settings.harp_socket is None


def test_all_variables_are_read() -> None:
    settings = Settings.from_environ(FULL)
    assert settings.aa_version == "33.0.1"
    assert (settings.app_host, settings.app_port) == ("0.0.0.0", 23000)
    assert settings.app_display_name == "My App"
    assert settings.persistent_storage == Path("/nc_app_my_app_data")
    assert settings.compute_device == "cuda"


def test_what_a_host_hands_over_is_what_the_app_reads() -> None:
    settings = Settings.from_environ(FULL)
    assert Settings.from_environ(settings.to_environ()) == settings


def test_the_example_in_the_error_is_a_right_one() -> None:
    environ = dict(line.split("=", 1) for line in EXAMPLE.splitlines())
    assert Settings.from_environ(environ).app_port == 9030


def test_everything_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ({"APP_VERSION": " "})
    assert caught.value.problems == (
        "APP_ID is not set",
        "APP_SECRET is not set",
        "APP_VERSION is empty",
        "NEXTCLOUD_URL is not set",
    )
    assert EXAMPLE in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_ID", "a b"),
        ("APP_ID", "x" * 33),
        ("APP_ID", "../x"),
        ("APP_PORT", "0"),
        ("APP_PORT", "65536"),
        ("APP_PORT", "90x"),
        ("APP_PORT", "-1"),
        ("NEXTCLOUD_URL", "cloud.example"),
        ("NEXTCLOUD_URL", "ftp://cloud.example"),
        ("NEXTCLOUD_URL", "http://"),
        ("NEXTCLOUD_URL", "http://cloud.example:port"),
        ("COMPUTE_DEVICE", "tpu"),
        ("APP_SECRET", ""),
    ],
)
def test_malformed_values_are_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ(FULL | {name: value})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name} is ")


@given(st.dictionaries(st.sampled_from(sorted(FULL)), st.text(max_size=20)))
def test_any_environment_gives_settings_or_a_config_error(environ: dict[str, str]) -> None:
    problems: tuple[str, ...] = ()
    settings = None
    try:
        settings = Settings.from_environ(environ)
    except ConfigError as error:
        problems = error.problems
    assert bool(settings) is not bool(problems)


def test_harp_means_a_unix_socket() -> None:
    harp = MINIMAL | {"HP_SHARED_KEY": "key"}
    assert Settings.from_environ(harp).harp_socket == Path("/tmp/exapp.sock")
    elsewhere = Settings.from_environ(harp | {"HP_EXAPP_SOCK": "/run/x.sock"})
    assert elsewhere.harp_socket == Path("/run/x.sock")


def test_no_repr_and_no_error_shows_the_secret() -> None:
    settings = Settings.from_environ(FULL)
    assert "s3cr3t" not in repr(settings)
    assert "s3cr3t" not in repr(settings.credentials)
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ({"APP_SECRET": "s3cr3t"})
    assert "s3cr3t" not in str(caught.value)


def test_settings_can_be_changed_only_in_a_copy() -> None:
    settings = Settings.from_environ(MINIMAL)
    assert replace(settings, app_port=1).app_port == 1
    with pytest.raises(AttributeError):
        settings.app_port = 1  # type: ignore[misc]
