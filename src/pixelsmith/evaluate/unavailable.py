"""What is left out of a table, and why."""

from __future__ import annotations


class UnavailableError(Exception):
    """A metric or an upscaler cannot be had with what was given; the message says what is missing."""
