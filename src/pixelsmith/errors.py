"""The error tree. A message says what was expected, what came, and what to do."""

from __future__ import annotations

import re
from textwrap import shorten

MOST_OF_A_REASON = 300
"""Characters."""


_ADVICE_IN_CODE = re.compile(r"trust_remote_code|ignore_mismatched_sizes|above report|\w=`?(True|False|None)\b")
"""What libraries tell those who call them; there is no such option here, and what it allows may be dangerous."""


def reason_of(error: Exception) -> str:
    """What another library says of a failure, short enough for a line: some of them print all tensors of a file.

    Sentences that advise another call of the library are left out.
    """
    sentences = re.split(r"(?<=[.!?])\s+", str(error))
    text = " ".join(sentence for sentence in sentences if not _ADVICE_IN_CODE.search(sentence))
    if "ignore_mismatched_sizes" in str(error):
        text = f"its weights and its configuration are of different sizes. {text}"
    return shorten(
        f"{type(error).__name__}: {text}" if text else type(error).__name__, MOST_OF_A_REASON, placeholder=" ..."
    )


class PixelsmithError(Exception):
    """Anything that Pixelsmith raises on purpose."""


class InputError(PixelsmithError, ValueError):
    """What the user asked for cannot be done; raised before any long work starts."""


class RequestError(InputError):
    """A value of the request is out of range, or two of them contradict each other."""


class ModelError(InputError):
    """The model cannot be found, read or used."""


class PictureError(InputError):
    """A given picture cannot be read, or a place cannot be written to."""


class RunError(InputError):
    """A run directory cannot be used: it is taken, damaged, or belongs to another run."""


class MissingPartError(InputError):
    """Something optional is not in this install; the message has the command that adds it."""


class RefusedError(PixelsmithError):
    """The model's own safety checker refuses the base picture."""


class OutputError(PixelsmithError):
    """What was made could not be written: the disk is full, or the folder is gone."""


class DeviceError(PixelsmithError):
    """The device gave out during the work: its memory ended, or a number left the range of its dtype."""


class CancelledError(PixelsmithError):
    """The run was ended by its ``CancelToken``."""
