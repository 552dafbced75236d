"""The AppAPI contract as values and functions, the same for both sides.

Standard library and pydantic only: no ASGI, no HTTP client, no input or output, and no idea which
side it runs on. What an ExApp needs before its first heartbeat (`auth`, `environ`, `lifecycle`,
`status`) imports the standard library alone, because process start is measured.
"""
