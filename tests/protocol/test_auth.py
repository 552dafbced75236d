"""The headers both sides sign with. Source: AppAPI documentation, Authentication."""

import base64
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exapp_sdk.errors import AuthError
from exapp_sdk.protocol.auth import MAX_HEADER_BYTES, Credentials, Secret

WIRE = Path(__file__).resolve().parents[1] / "wire" / "host-to-exapp.jsonl"
RECORDED = [json.loads(line) for line in WIRE.read_text(encoding="utf-8").splitlines()]
SIGNED = [row for row in RECORDED if row["target"] != "/heartbeat"]

OURS = Credentials("notes_ai", "1.4.0", Secret("s3cr3t"))
VISIBLE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)


def on_the_wire(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers]


def test_documented_example_is_built_and_read() -> None:
    as_bob = Credentials("notes_ai", "1.4.0", Secret("s3cr3t"), "bob")
    assert OURS.headers(aa_version="32.0.0") == [
        ("AA-VERSION", "32.0.0"),
        ("EX-APP-ID", "notes_ai"),
        ("EX-APP-VERSION", "1.4.0"),
        ("AUTHORIZATION-APP-API", "OnMzY3IzdA=="),
    ]
    assert as_bob.headers(aa_version="32")[3][1] == "Ym9iOnMzY3IzdA=="
    assert Credentials.parse(on_the_wire(as_bob.headers(aa_version="32"))) == as_bob


@given(
    app_id=VISIBLE,
    version=VISIBLE,
    secret=st.text(st.characters(codec="utf-8"), max_size=300),
    user_id=st.text(st.characters(codec="utf-8", exclude_characters=":"), max_size=64),
)
def test_what_is_sent_is_what_is_read(app_id: str, version: str, secret: str, user_id: str) -> None:
    sent = Credentials(app_id, version, Secret(secret), user_id)
    received = Credentials.parse(on_the_wire(sent.headers(aa_version="32.0.0")))
    assert received == sent
    assert received.secret.reveal() == secret, "a secret may contain colons"


@pytest.mark.parametrize("row", SIGNED, ids=lambda row: f"{row['method']} {row['target']}")
def test_recorded_requests_of_appapi_are_accepted(row: dict[str, object]) -> None:
    headers = [(name, value) for name, value in row["request_headers"]]  # type: ignore[attr-defined]
    received = Credentials.parse(on_the_wire(headers))
    assert received.matches(Credentials("nc_py_api", "9.9.9", Secret("12345")))
    assert received.user_id in ("", "admin")
    assert not received.matches(Credentials("nc_py_api", "1.0.0", Secret("12346")))
    assert not received.matches(Credentials("nc_py_ap", "1.0.0", Secret("12345")))


GOOD = dict(on_the_wire(OURS.headers(aa_version="32.0.0")))
NAMES = (b"ex-app-id", b"ex-app-version", b"authorization-app-api")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", b"a" * (MAX_HEADER_BYTES + 1)])
def test_each_header_must_be_there_and_readable(name: bytes, value: bytes | None) -> None:
    headers = dict(GOOD)
    if value is None:
        del headers[name]
    else:
        headers[name] = value
    with pytest.raises(AuthError):
        Credentials.parse(headers.items())


@pytest.mark.parametrize("name", NAMES)
def test_doubled_headers_are_refused_even_if_equal(name: bytes) -> None:
    with pytest.raises(AuthError):
        Credentials.parse([*GOOD.items(), (name, GOOD[name])])


@pytest.mark.parametrize(
    "text",
    [
        b"OnMzY3IzdA",  # padding is missing
        b"OnMzY3IzdA==\n",
        b"On MzY3IzdA==",
        b"!!!!",
        base64.b64encode(b"no colon"),
        base64.b64encode(b":\xff\xfe"),
    ],
)
def test_authorization_is_decoded_strictly(text: bytes) -> None:
    with pytest.raises(AuthError) as caught:
        Credentials.parse((GOOD | {b"authorization-app-api": text}).items())
    assert caught.value.__cause__ is None
    assert str(caught.value) == "AppAPI authentication failed", "which half is wrong stays untold"


def test_user_is_what_stands_before_the_first_colon() -> None:
    pair = base64.b64encode("älice:a:b".encode())
    received = Credentials.parse((GOOD | {b"authorization-app-api": pair}).items())
    assert (received.user_id, received.secret.reveal()) == ("älice", "a:b")


def test_secrets_show_themselves_nowhere() -> None:
    secret = Secret("s3cr3t")
    shown = f"{secret} {secret!r} {OURS} {OURS!r} {[secret]}"
    assert "s3cr3t" not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
    assert secret.mask("login with s3cr3t failed") == "login with *** failed"
    assert Secret("").mask("unchanged") == "unchanged"


def test_secrets_compare_by_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a")
    assert not Secret("")
