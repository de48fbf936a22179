"""Where and how the work of a request is done."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from pixelsmith.config.checks import check_choices, check_flag
from pixelsmith.config.settings import Group, check_numbers, setting
from pixelsmith.config.workers import Workers

DeviceName = Literal["auto", "cuda", "rocm", "mps", "xpu", "cpu"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
MemoryMode = Literal["all", "encoders-released", "offload", "sequential"]


@dataclass(frozen=True)
class Compute:
    """Where and how the work is done. Only ``dtype`` is meant to change the picture; the other fields
    change it by rounding (docs/decisions/0013-devices.md).

    - ``device``: where the model runs; ``auto`` takes a GPU if there is one. ``rocm`` and ``cuda`` are the same.
    - ``dtype``: the precision of the network's numbers; ``auto`` is half precision where the device is fast in it.
    - ``batch_size``: patches in one call of the network, at least 1; ``None`` chooses by the device and their size.
    - ``memory``: what is on the device: the whole model (``all``); the whole model, with the text encoders freed once
      the prompt is encoded; one part at a time (``offload``); one layer at a time (``sequential``, slow).
    - ``compile``: compile the network, and an autoencoder of residual blocks.
    - ``channels_last``: keep the weights of convolutions with channels as the innermost dimension; ``None`` does so on
      CUDA, whose Tensor Cores compute convolutions in that order.
    - ``attention``: diffusers' name of the attention backend, such as ``flash``, ``sage`` or ``xformers``; ``None`` is
      diffusers' default, PyTorch's own. Another backend changes the picture by rounding; ``sage`` quantises to int8.
    - ``tile``: the largest side in pixels that the autoencoder and an upsampler compute at once; ``None`` chooses by
      the model. Smaller tiles need less memory and more time (``pixelsmith.engine.pieces``).
    - ``deterministic``: use only PyTorch's deterministic algorithms, some of which are slower
      (docs/decisions/0034-devices-as-they-are.md).

    Raises ``RequestError`` for an unknown device, dtype or memory mode, and for sizes below 1.
    """

    device: DeviceName = setting(
        "auto", "Where the model runs; auto takes a GPU if there is one.", Group.MACHINE, common=True
    )
    dtype: DtypeName = setting(
        "auto", "Precision of the network's numbers; auto is half where that is fast.", Group.MACHINE
    )
    batch_size: int | None = setting(
        None, "Patches per call of the network.  [default: by device]", Group.MACHINE, least=1
    )
    memory: MemoryMode = setting(
        "all",
        "How much of the model is on the GPU at a time. With little memory: offload, or sequential (least, slowest).",
        Group.MACHINE,
        common=True,
    )
    compile: bool = setting(False, "Compile the network, and an autoencoder of residual blocks.", Group.MACHINE)
    channels_last: bool | None = setting(
        None, "Keep the weights of convolutions in channels-last order.  [default: on CUDA]", Group.MACHINE
    )
    attention: str | None = setting(
        None,
        "Attention backend of diffusers, such as flash, sage or xformers.  [default: PyTorch's own]",
        Group.MACHINE,
        metavar="BACKEND",
    )
    tile: int | None = setting(
        None,
        "The largest side in pixels that the autoencoder and an upsampler compute at once.  [default: by model]",
        Group.MACHINE,
        least=1,
    )
    deterministic: bool = setting(False, "Use only PyTorch's deterministic algorithms.", Group.MACHINE)

    def __post_init__(self) -> None:
        check_choices(self, device=DeviceName, dtype=DtypeName, memory=MemoryMode)
        check_numbers(self)
        check_flag("deterministic", self.deterministic)


@dataclass(frozen=True)
class Placement:
    """What ``resume`` may change of a run's ``Compute``; ``None`` keeps the value that the run began with.

    ``memory`` never changes the picture, nor does ``tile`` if the autoencoder is local; another ``device``,
    ``batch_size`` or ``attention`` changes it by rounding. ``workers``: the devices that share the work from now on, of
    any kind and number. Raises ``RequestError`` as ``Compute`` does.
    """

    device: DeviceName | None = setting(None, "Continue on another device.", Group.MACHINE)
    memory: MemoryMode | None = setting(None, "Another memory mode than the run began with.", Group.MACHINE)
    batch_size: int | None = setting(None, "Another batch size; it changes the picture by rounding.", Group.MACHINE)
    tile: int | None = setting(
        None, "The largest side in pixels that the autoencoder and an upsampler compute at once.", Group.MACHINE
    )
    attention: str | None = setting(
        None,
        "Another attention backend of diffusers, such as native, PyTorch's own.",
        Group.MACHINE,
        metavar="BACKEND",
    )
    workers: Workers | None = None

    def __post_init__(self) -> None:
        self.of(Compute())

    def of(self, compute: Compute) -> Compute:
        """``compute`` with these changes."""
        compute = compute if self.workers is None else replace(compute, device="auto")
        given = {own.name: getattr(self, own.name) for own in fields(self) if own.name != "workers"}
        return replace(compute, **{name: value for name, value in given.items() if value is not None})
