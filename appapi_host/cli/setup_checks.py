"""occ's command `setupchecks`: what apps have to say about their own health.

The real one runs the checks of the whole server; here are those of AppAPI, which asks the apps. It
shows what apps said some minutes ago, this one asks them now.
"""

import html
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from appapi_host.cli.session import Session
from appapi_host.cli.symfony import Argument, Command, Input, Option, UsageError, Value

if TYPE_CHECKING:
    from appapi_host.setup_checks import Issue

__all__ = ["COMMANDS"]

_FINE: Final = "\u2713"
_CATEGORY: Final = "system"
_NAMESPACE: Final = "OCA\\AppAPI\\SetupChecks\\"
_CHECKS: Final = (
    ("ExAppsErrorSetupCheck", "External Apps (Errors)", "error", "\u2717"),
    ("ExAppsWarningSetupCheck", "External Apps (Warnings)", "warning", "\u26a0"),
)


async def _run(session: Session, given: Input) -> int:
    output = given.text("output") or "plain"
    if output not in ("plain", "json", "json_pretty"):
        raise UsageError("--output must be plain, json or json_pretty.", COMMANDS[0])
    wanted = given.arguments.get("type", "all")
    chosen = [check for check in _CHECKS if wanted in ("all", _CATEGORY, _NAMESPACE + check[0])]
    if not chosen:
        session.line("Invalid type specified (or no results for that type)")
        return 1
    from appapi_host.setup_checks import SINCE

    async with session.host() as host:
        found = await host.setup_checks.issues()
        if host.settings.nextcloud_version < SINCE:
            session.note(f"apps can ask for setup checks since Nextcloud {SINCE}")
    results = {check: [issue for issue in found if issue.severity == check[2]] for check in chosen}
    if output == "plain":
        session.line(f"\t{_CATEGORY}:")
        for (_, name, _, sign), issues in results.items():
            described = f": {_description(issues)}" if issues else ""
            session.line(f"\t\t{sign if issues else _FINE} {name}{described}")
    else:
        shown = {
            _NAMESPACE + check[0]: _as_json(check, issues) for check, issues in results.items()
        }
        indent = 4 if output == "json_pretty" else None
        session.line(json.dumps({_CATEGORY: shown}, indent=indent))
    return 1 if any(results.values()) else 0


def _description(issues: Sequence["Issue"]) -> str:
    """All in one text, as the real one has it, which is written for a page first."""
    return "<br />".join(
        f"{_escaped(issue.app_name)}: {_escaped(issue.text)}"
        + (f" {issue.link_label or issue.link_url}" if issue.link_url else "")
        for issue in issues
    )


def _escaped(text: str) -> str:
    return html.escape(text.replace("{", "").replace("}", "")).replace("&#x27;", "&#039;")


def _as_json(check: tuple[str, str, str, str], issues: Sequence["Issue"]) -> dict[str, Any]:
    return {
        "name": check[1],
        "severity": check[2] if issues else "success",
        "description": _description(issues) if issues else None,
        "linkToDoc": None,
    }


COMMANDS: Final = (
    Command(
        "setupchecks",
        "Run setup checks and output the results",
        _run,
        (
            Argument(
                "type", "Category or class of the checks to run", required=False, default="all"
            ),
        ),
        (Option("output", "plain, json or json_pretty", Value.REQUIRED, "plain"),),
    ),
)
