"""Autoencoders and upsamplers whose tiles are computed in pieces if the device has too little memory for a whole tile.

The tiles are the layout of latents and pictures on disk, which must not change during a run. But a tile can be divided
like a canvas, with the same context around each piece. The result is the same if the network is local, and otherwise as
close as that of tiles to an untiled pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pixelsmith.engine.enlarged import LAYOUT
from pixelsmith.families.family import Autoencoder
from pixelsmith.families.upsamplers import Upsampler
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.grid import Grid, TileLayout
from pixelsmith.system.device import is_out_of_memory

OnSmaller = Callable[[int], None]
"""A callback for when the device is out of memory, with the new side in pixels that is computed at once."""
_Run = Callable[[Window, Window], Tensor]
"""Computes the values of a window of a tile, of which a part is used; both in latents of the tile."""


class _InPieces(ABC):
    """Something that is run on at most ``side`` values of its input a side, halved if memory is exhausted.

    ``side``: with context; ``None`` for whole tiles. ``scale``: the pixels, on each side, for a value of the input. If
    the memory is too small for the smallest piece, the device's own error is raised.
    """

    scale: int
    on_smaller: OnSmaller
    side: int | None

    @property
    @abstractmethod
    def tiling(self) -> TileLayout:
        """How tiles overlap, in values of the input."""

    def __getstate__(self) -> dict[str, Any]:
        """The callback stays in this process; copies in other processes report nothing."""
        return vars(self) | {"on_smaller": _untold}

    def _run(self, run: _Run, whole: Size, wanted: Window, unit: int) -> Tensor:
        """The values of a tile, ``unit`` per latent on each axis, of which only those of ``wanted`` are used."""
        while True:
            pieces = self._pieces(whole)
            try:
                return run(whole.window, wanted) if len(pieces) == 1 else _joined(run, pieces, wanted, unit)
            except RuntimeError as error:
                if not (is_out_of_memory(error) and self._can_shrink(whole)):
                    raise
            # Outside of the handler, whose traceback keeps the computed tensors alive.
            self._shrink(whole)

    def _can_shrink(self, whole: Size) -> bool:
        return self._half(whole) >= self.tiling.least

    def _shrink(self, whole: Size) -> None:
        """Halve the kept part of a piece on each axis from now on."""
        self.side = self._half(whole)
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()
        self.on_smaller(self.side * self.scale)

    def _half(self, whole: Size) -> int:
        window, around = self._pieces(whole)[0].window, 2 * self.tiling.context
        return (max(window.width, window.height) - around) // 2 + around

    def _pieces(self, whole: Size) -> Grid:
        side = max(whole.width, whole.height) if self.side is None else max(self.side, self.tiling.least)
        return TileLayout(side, self.tiling.context, self.tiling.blend).tiles(whole)


@dataclass
class InPieces(_InPieces):
    """An ``Autoencoder`` that runs another one piece by piece; ``scale``: pixels per latent."""

    autoencoder: Autoencoder
    scale: int
    on_smaller: OnSmaller
    side: int | None = None

    @property
    def tiling(self) -> TileLayout:
        return self.autoencoder.tiling

    @property
    def device(self) -> torch.device:
        return self.autoencoder.device

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        def run(window: Window, _: Window) -> Tensor:
            return self.autoencoder.encode(pixels[(..., *window.scaled(self.scale).slices)])

        whole = _size_of(pixels).divided(self.scale)
        return self._run(run, whole, whole.window, 1)

    def decode(self, latents: Float[Tensor, "b c h w"], kept: Window | None = None) -> Float[Tensor, "b 3 H W"]:
        def run(window: Window, wanted: Window) -> Tensor:
            return self.autoencoder.decode(latents[(..., *window.slices)], wanted.relative_to(window))

        whole = _size_of(latents)
        return self._run(run, whole, kept or whole.window, self.scale)

    def steady_encoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        return self._steady(self.autoencoder.steady_encoding, samples, self.scale)

    def steady_decoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        return self._steady(self.autoencoder.steady_decoding, samples, 1)

    @contextmanager
    def _steady(
        self, steady: Callable[[Iterable[Tensor]], AbstractContextManager[None]], samples: Iterable[Tensor], unit: int
    ) -> Iterator[None]:
        """Use shared statistics of these samples, divided like tiles; ``unit``: values of a sample per latent."""
        seen, rest = list[Tensor](), iter(samples)

        def cut() -> Iterator[Tensor]:
            for sample in chain(tuple(seen), _noted(rest, seen)):
                for patch in self._pieces(_size_of(sample).divided(unit)):
                    yield sample[(..., *patch.window.scaled(unit).slices)]

        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(steady(cut()))
                    break
                except RuntimeError as error:
                    if not (seen and is_out_of_memory(error) and self._can_shrink(_size_of(seen[-1]).divided(unit))):
                        raise
                self._shrink(_size_of(seen[-1]).divided(unit))
            seen.clear()
            yield


@dataclass
class UpsamplerInPieces(_InPieces):
    """An ``Upsampler`` that runs another one piece by piece; ``scale``: that of both."""

    upsampler: Upsampler
    scale: int
    on_smaller: OnSmaller
    side: int | None = None

    @property
    def tiling(self) -> TileLayout:
        return LAYOUT

    def __call__(self, pixels: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "3 H W"]:
        """The enlarged picture."""

        def run(window: Window, _: Window) -> Tensor:
            return self.upsampler(pixels[:, *window.slices])[None].float()

        whole = _size_of(pixels)
        return self._run(run, whole, whole.window, self.scale)[0].to(torch.uint8)


def _untold(side: int) -> None:
    """Does nothing."""


def _joined(run: _Run, pieces: Grid, wanted: Window, unit: int) -> Tensor:
    fine, whole = pieces.scaled(unit), None
    for index in pieces.touching(wanted):
        if not pieces.kept(index).overlaps(wanted):
            continue
        window, place = pieces[index].window, fine.kept(index)
        # Pieces may meet in the middle of a latent, so part of the next latent is used as well.
        values = run(window, pieces.kept(index).grown(1, pieces.canvas).common(window))
        if whole is None:
            whole = values.new_zeros(*values.shape[:2], fine.canvas.height, fine.canvas.width)
        weights = torch.from_numpy(fine.weights(index, place)).to(values.device)
        whole[(..., *place.slices)] += weights * values[(..., *place.relative_to(window.scaled(unit)).slices)]
    if whole is None:
        raise ValueError("nothing of a tile is wanted")
    return whole


def _noted(samples: Iterator[Tensor], seen: list[Tensor]) -> Iterator[Tensor]:
    for sample in samples:
        seen.append(sample)
        yield sample


def _size_of(values: Tensor) -> Size:
    return Size(values.shape[-1], values.shape[-2])
