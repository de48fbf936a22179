"""Random numbers keyed by identity, not by call order: a position gets the same numbers on any machine, at any time."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """The use of the numbers, which is part of their key, so that no two uses share numbers."""

    NOISE = 1
    COVERAGE = 2
    CHESS_MASK = 3
    TEXTURE = 4
    STEP = 5


def keyed_generator(purpose: Purpose, seed: int, *identity: int) -> np.random.Generator:
    """A Philox generator for (purpose, seed, identity); every part is a whole number of at least 0.

    The seed comes last in the key: it alone may exceed 32 bits, so no two keys of one purpose mix up.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([purpose, *identity, seed])))
