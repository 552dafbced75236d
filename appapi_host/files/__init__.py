"""The files of the host's users: a folder each, over WebDAV and from tests.

`access` is what tests and the rest of the host use; `entrance` serves the same to apps and people.
Both stand on `store`. Nothing is made, and no library loaded, before somebody asks for a file.
"""

__all__ = ["instance_id"]


def instance_id(instance: str) -> str:
    """The id of a host in Nextcloud's form, which ids of files end with: `oc` and ten characters.

    Args:
        instance: `Host.instance`.
    """
    return f"oc{instance[:10]}"
