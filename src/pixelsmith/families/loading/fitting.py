"""Whether a network can be combined with a model, from configurations alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pixelsmith.errors import ModelError


def check_same(name: str, problem: str, keys: Sequence[str], config: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise ``ModelError`` if an entry of a configuration differs from the model's ``own``, naming the ``problem``.

    Without the check such a network would fail only when it is called, with an obscure message.
    """
    for key in keys:
        if key in own and config.get(key, own[key]) != own[key]:
            raise ModelError(f"{name}: {problem}: expected {key} {json.dumps(own[key])}, got {json.dumps(config[key])}")
