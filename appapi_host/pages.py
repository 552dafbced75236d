"""The few pages that the host shows to people."""

import html

__all__ = ["html_page"]


def html_page(title: str, body: str) -> bytes:
    """A whole page.

    Args:
        title: text.
        body: HTML.
    """
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title></head>\n'
        f"<body><h1>{html.escape(title)}</h1>\n{body}</body></html>\n"
    ).encode()
