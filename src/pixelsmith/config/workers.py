"""Which devices work on a picture, as a value that is checked when it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pixelsmith.errors import RequestError

LOCAL = "local"
"""The address of a Ray cluster that is started on this machine and ends with the run."""
_DEVICE = re.compile(r"(cuda|rocm|mps|xpu|cpu)(?::([0-9]{1,4}))?")


@dataclass(frozen=True)
class Workers:
    """The devices that share the work of a picture, each with the whole model.

    - ``devices``: of this machine, such as ``("cuda:0", "cuda:1", "cpu")``, with a process for each; or with ``ray``
      the kinds of the cluster's, such as ``("cuda", "cuda")``.
    - ``ray``: the address of a Ray cluster (``auto``, ``host:port``, ``ray://host:port``), or ``local`` to start one
      here. Without ``devices`` all its GPUs work, or, where it has none, a worker on each of its nodes.

    Workers do not affect the picture: on equal hardware a request gives the same pixels with any of them, byte for byte
    in float32. Raises ``RequestError`` for an unknown device name, if neither field is given, or without
    ``ray`` if an accelerator is given twice.

    Examples:
        >>> Workers.parse("cuda:0,cuda:1", None)
        Workers(devices=('cuda:0', 'cuda:1'), ray=None)
    """

    devices: tuple[str, ...] = ()
    ray: str | None = None

    def __post_init__(self) -> None:
        found = []
        for name in self.devices:
            match = _DEVICE.fullmatch(name)
            if match is None:
                raise RequestError(
                    f"devices: expected names such as cuda:0, cuda:1, mps, xpu:0 or cpu between commas; got {name!r}"
                )
            if match[2] and self.ray is not None:
                raise RequestError(f"devices: with --ray they are kinds, such as cuda,cuda or cpu,cpu; got {name!r}")
            found.append(name.replace("rocm", "cuda"))
        if not found and self.ray is None:
            raise RequestError("devices: expected at least one, or the address of a Ray cluster")
        if numbered := [name for name in found if ":" in name and found.count(name) > 1]:
            raise RequestError(f"devices: {numbered[0]} is given twice")
        object.__setattr__(self, "devices", tuple(found))
        if self.ray is None:
            self._check_numbers()

    @classmethod
    def parse(cls, devices: str | None, ray: str | None) -> Workers | None:
        """Read names between commas and an address; ``None`` of neither. Raises ``RequestError``."""
        if devices is None and ray is None:
            return None
        return cls(tuple(name.strip() for name in (devices or "").split(",") if name.strip()), ray)

    def _check_numbers(self) -> None:
        """Raise ``RequestError`` if two processes of this machine would use the same accelerator."""
        for kind in self.kinds:
            unnumbered = kind in self.devices or kind == "mps"
            if kind != "cpu" and unnumbered and self.kinds.count(kind) > 1:
                remedy = "" if kind == "mps" else f"; number them, such as {kind}:0,{kind}:1"
                raise RequestError(f"devices: {kind} is given twice{remedy}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the devices, where they are named."""
        return tuple(name.partition(":")[0] for name in self.devices)
