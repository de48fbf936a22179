"""The error for rows and metrics that are left out of a table."""

from __future__ import annotations


class UnavailableError(Exception):
    """Raised if a metric or an upscaler is not available; the message names the missing input."""
