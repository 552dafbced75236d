"""Classes build their own messages, and the tree is as drawn."""

import pytest

from exapp_sdk import errors


def test_every_error_of_ours_is_an_exapp_error() -> None:
    classes = [getattr(errors, name) for name in errors.__all__]
    assert all(issubclass(kind, errors.ExAppError) for kind in classes)
    drawn = errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in classes)


def test_messages_say_what_happened_and_where() -> None:
    config = errors.ConfigError(["A is not set", "B is empty"], example="A=1")
    assert str(config) == "A is not set; B is empty\nFor example:\nA=1"
    assert str(errors.ConfigError(["only this"])) == "only this"
    transport = errors.TransportError("GET http://h/x", "no answer", outcome_unknown=True)
    assert str(transport) == "GET http://h/x: no answer"
    assert transport.outcome_unknown
    refused = errors.OCSError(404, " ", target="GET http://h/x")
    assert str(refused) == "GET http://h/x was refused with 404: no message"
    assert str(errors.OCSError(997, "no")) == "OCS call was refused with 997: no"


def test_wrong_decorators_are_type_errors_too() -> None:
    with pytest.raises(TypeError, match=r"write @app\.init"):
        raise errors.HandlerError("x() takes nothing", remedy="@app.init")
