"""The files of the host's users: a folder each, over WebDAV and from tests.

`access` is what tests and the rest of the host use; `entrance` serves the same to apps and people.
Both stand on `store`. Nothing is made, and no library loaded, before somebody asks for a file.
"""
