"""The pages that the host shows to people: plain HTML and one style sheet, no framework.

`site.py` says which path is which page. This module holds what all of them need, the proxy's
refusals too.
"""

import html

__all__ = ["STYLE_PATH", "html_page"]

STYLE_PATH = "/core/css/host.css"


def html_page(title: str, body: str, *, header: str = "") -> bytes:
    """A whole page.

    Args:
        title: text.
        body: HTML below the title.
        header: HTML of the bar at the top.
    """
    shown = html.escape(title)
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{shown}</title>\n<link rel="stylesheet" href="{STYLE_PATH}">\n</head>\n'
        f'<body>\n{header}<main id="content">\n<h1>{shown}</h1>\n{body}</main>\n</body>\n</html>\n'
    ).encode()
