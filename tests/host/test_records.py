"""What the host knows, as values."""

from dataclasses import replace

import pytest

from appapi_host.records import AccessLevel, AppRecord, Daemon, User
from exapp_sdk.errors import LocalProtocolError
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import Event, State
from exapp_sdk.protocol.status import Status

DAEMON = Daemon("here", "Here", "manual-install", "http", "localhost")
APP = AppRecord("my_app", "1.0.0", "My app", DAEMON, 9031, Secret("very-secret"))


def test_a_new_record_is_deploying_and_not_enabled() -> None:
    assert APP.state is State.DEPLOYING
    assert not APP.enabled
    assert APP.status == Status()
    assert not APP.deployment


def test_an_event_moves_the_record_and_keeps_what_is_not_named() -> None:
    status = Status(deploy=100)
    app = replace(APP, failure="old").after(Event.DEPLOYED, status=status)
    assert app.state is State.WAITING
    assert app.status is status
    assert app.failure == ""
    assert app.after(Event.HEARTBEAT_ANSWERED, enabled=True).enabled
    failed = app.after(Event.HEARTBEAT_FAILED, failure="silence")
    assert (failed.status, failed.failure) == (status, "silence")


def test_a_forbidden_event_changes_nothing() -> None:
    with pytest.raises(LocalProtocolError, match="'init finished' must not happen while deploying"):
        APP.after(Event.INIT_FINISHED)


def test_requests_are_signed_in_the_users_name_and_the_secret_is_not_shown() -> None:
    credentials = APP.credentials("alice")
    assert (credentials.app_id, credentials.user_id) == ("my_app", "alice")
    assert credentials.secret.reveal() == "very-secret"
    assert APP.credentials().user_id == ""
    assert "very-secret" not in repr(APP)


def test_a_daemon_knows_where_its_apps_reach_the_host() -> None:
    assert DAEMON.nextcloud_url == ""
    config = {"nextcloud_url": "http://host:8080"}
    assert replace(DAEMON, deploy_config=config).nextcloud_url == "http://host:8080"


def test_administrators_reach_more_than_users() -> None:
    assert User("alice").access_level is AccessLevel.USER
    assert User("root", is_admin=True).access_level is AccessLevel.ADMIN
    assert "hash" not in repr(User("alice", password_hash="hash"))
