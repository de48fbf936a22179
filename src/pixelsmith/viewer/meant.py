"""Whether a request is meant for a server of this machine, and what its answers forbid to pages of others."""

from __future__ import annotations

import re

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Of all answers: pages of others may neither frame what is shown nor use it."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that nobody else can have."""
HEAD_SECONDS = 60
"""Within which a request is asked for whole, or its connection is closed; and an answer is taken."""
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]]+)(:[0-9]{1,5})?")


def asked_host(hosts: list[str]) -> str | None:
    """The name in the ``Host`` headers of a request; ``None`` where it is malformed or not exactly one.

    Where there are several, others on the way may have read another one.
    """
    found = _HOST.fullmatch(hosts[0].strip()) if len(hosts) == 1 else None
    return None if found is None else found["name"].strip("[]").lower()


def is_meant(address: str, host: str) -> bool:
    """Whether a page of this machine asks: another one can have its own name lead here (DNS rebinding)."""
    return address not in LOOPBACK or host in LOOPBACK
