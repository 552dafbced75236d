"""The global names that Nextcloud's JavaScript packages read, as a script of the host.

Only facts about this host; whatever is more than that comes with the packages. `@nextcloud/router`
reads `_oc_webroot`, `_oc_appswebroots` and `OC.config`, `@nextcloud/auth` reads `_oc_isadmin`,
`@nextcloud/l10n` reads the registry that translation files fill through `OC.L10N.register`.
"""

import json
from typing import Any, Final

from starlette.responses import Response

from appapi_host.ocs.capabilities import VERSIONS
from appapi_host.pages.login import request_sign_in
from appapi_host.pages.visit import Visit
from appapi_host.proxy import BUILT_IN_PREFIX
from appapi_host.sessions import LIFETIME

__all__ = ["GLOBALS_PATH", "globals_script"]

GLOBALS_PATH: Final = "/index.php/core/js/oc.js"

_SCRIPT: Final = """\
(function (facts) {
\tObject.assign(window, facts);
\twindow._oc_l10n_registry_translations = {};
\twindow._oc_l10n_registry_plural_functions = {};
\tconst user = document.head.dataset;
\twindow.OC = {
\t\twebroot: facts._oc_webroot,
\t\tappswebroots: facts._oc_appswebroots,
\t\tconfig: facts._oc_config,
\t\tcoreApps: ["", "admin", "log", "core", "settings", "search"],
\t\tcurrentUser: user.user ?? false,
\t\tgetCurrentUser: () => ({ uid: user.user ?? false, displayName: user.userDisplayname }),
\t\tget requestToken() { return user.requesttoken; },
\t\tisUserAdmin: () => facts._oc_isadmin,
\t\tgetLanguage: () => document.documentElement.lang,
\t\tgetLocale: () => document.documentElement.dataset.locale,
\t\tgetHost: () => window.location.host,
\t\tgetProtocol: () => window.location.protocol.slice(0, -1),
\t\tgetRootPath: () => facts._oc_webroot,
\t\tL10N: {
\t\t\tregister(app, bundle) {
\t\t\t\tconst known = window._oc_l10n_registry_translations;
\t\t\t\tknown[app] = Object.assign(known[app] ?? {}, bundle);
\t\t\t\twindow._oc_l10n_registry_plural_functions[app] ??= (n) => (n === 1 ? 0 : 1);
\t\t\t},
\t\t},
\t};
\twindow.OCA ??= {};
\twindow.OCP ??= {};
})(%s);
"""


async def globals_script(visit: Visit) -> Response:
    """The script; it differs from user to user."""
    if visit.user is None:
        return request_sign_in(visit)
    apps = await visit.host.registry.apps()
    version = VERSIONS[visit.host.settings.nextcloud_version]
    facts: dict[str, Any] = {
        "_oc_webroot": "",
        "_oc_appswebroots": {"app_api": "/apps/app_api"}
        | {app.app_id: f"{BUILT_IN_PREFIX}{app.app_id}" for app in apps if app.enabled},
        "_oc_isadmin": visit.user.is_admin,
        "_oc_debug": True,
        "_oc_config": {
            # Both kinds of addresses are served here; those with index.php are what AppAPI makes.
            "modRewriteWorking": False,
            "session_lifetime": LIFETIME,
            "session_keepalive": False,
            "version": ".".join(map(str, version)),
            "versionstring": ".".join(map(str, version)),
        },
    }
    text = _SCRIPT % json.dumps(facts)
    return visit.answer(text.encode(), media="text/javascript")
