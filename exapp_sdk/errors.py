"""Every error of ours, in one tree.

```
ExAppError                      catch this to catch all of ours
├── ConfigError                 variables, files or arguments missing or malformed; names each
├── HandlerError                a decorator was used wrongly; says what to write instead
├── InitInterruptedError        the app stops while its init handler runs in a thread
├── AuthError                   AppAPI headers absent or wrong; never says which half
├── TransportError              the peer could not be reached
├── ProtocolError
│   ├── LocalProtocolError      we broke the contract: a bug here
│   └── RemoteProtocolError     the peer broke it: log, answer, keep running
├── OCSError                    a well-formed refusal; carries status code and message
└── HostError                   appapi_host only, see appapi_host.errors
```

Classes take typed arguments and build their own message, so that a message is written once.
"""

from collections.abc import Sequence

__all__ = [
    "AuthError",
    "ConfigError",
    "ExAppError",
    "HandlerError",
    "InitInterruptedError",
    "LocalProtocolError",
    "OCSError",
    "ProtocolError",
    "RemoteProtocolError",
    "TransportError",
]


class ExAppError(Exception):
    """Base of every error that this distribution raises on purpose."""


class ConfigError(ExAppError):
    """Something that a person configured is missing or malformed.

    Args:
        problems: one sentence each; all of them, so that one run shows everything.
        example: what a right configuration looks like.
    """

    def __init__(self, problems: Sequence[str], *, example: str = "") -> None:
        self.problems = tuple(problems)
        self.example = example
        text = "; ".join(self.problems)
        super().__init__(f"{text}\nFor example:\n{example}" if example else text)


class HandlerError(ExAppError, TypeError):
    """A decorator was used wrongly, or on a function of the wrong shape.

    Raised in the line of the decorator, when the module is imported.

    Args:
        problem: what is wrong, naming the function.
        remedy: what to write instead.
    """

    def __init__(self, problem: str, *, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}; write {remedy}")


class InitInterruptedError(ExAppError):
    """The app stops while its init handler still runs in a worker thread.

    `progress.set()` raises it there, because nothing else can end a thread.
    """

    def __init__(self) -> None:
        super().__init__("Initialization was interrupted because the app was stopped.")


class AuthError(ExAppError):
    """The AppAPI headers of a request are absent, malformed or wrong.

    The text is always the same: which half was wrong helps only an attacker.
    """

    def __init__(self) -> None:
        super().__init__("AppAPI authentication failed")


class TransportError(ExAppError):
    """The peer could not be reached, or went silent.

    Args:
        target: what was to be reached, for instance `PUT http://localhost:8080/ocs/...`.
        reason: why it failed.
        outcome_unknown: the request was sent, so the peer may or may not have acted on it.
    """

    def __init__(self, target: str, reason: str, *, outcome_unknown: bool = False) -> None:
        self.target = target
        self.reason = reason
        self.outcome_unknown = outcome_unknown
        super().__init__(f"{target}: {reason}")


class ProtocolError(ExAppError):
    """The contract between host and app was broken."""


class LocalProtocolError(ProtocolError):
    """We were about to break the contract. Nothing was sent and nothing was changed."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the contract does not allow."""


class OCSError(ExAppError):
    """The host understood the request and refused it.

    Args:
        statuscode: the OCS status code, for instance 404 or 997 (`exapp_sdk.protocol.ocs`).
        message: the host's own words, often empty.
        target: the request that was refused.
    """

    def __init__(self, statuscode: int, message: str = "", *, target: str = "") -> None:
        self.statuscode = statuscode
        self.message = message
        self.target = target
        said = message.strip() or "no message"
        super().__init__(f"{target or 'OCS call'} was refused with {statuscode}: {said}")
