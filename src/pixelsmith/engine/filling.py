"""Canvases that are filled tile by tile: those tiles that are missing are computed and stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic

from torch import Tensor

from pixelsmith.engine.denoise import Patched
from pixelsmith.engine.executor import Executor, Inputs, Outputs, Serial, Work
from pixelsmith.engine.seldom import Seldom
from pixelsmith.sampling.grid import Grid
from pixelsmith.sampling.readable import Readable
from pixelsmith.system.device import finite, room_for

OnTile = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""


@dataclass(frozen=True)
class Filling(Generic[Inputs, Outputs]):
    """A canvas, its tiles, and how each of them is computed and stored, by its index.

    - ``kind``: the name of a tile in messages, such as "a tile of the autoencoder"; ``verb``: what is done to it.
    - ``read``: returns the inputs of a tile, on the host; ``compute``: the values of this one tile (``Work.compute``).
    - ``keep``: stores these values, copied to the host; by default as the tile (c, h, w) of ``canvas``.
    - ``needed``: the tiles that are computed if they are missing; by default all.
    """

    canvas: Patched
    tiles: Grid
    kind: str
    verb: str
    read: Callable[[int], Inputs]
    compute: Callable[[Inputs], Outputs]
    keep: Callable[[int, Outputs], None] | None = None
    needed: Collection[int] | None = None

    def run(self, on_tile: OnTile, executor: Executor) -> None:
        """Compute the missing tiles.

        Raises ``DeviceError`` if the device has too little memory for a tile, or a value is not finite.
        """
        needed = range(len(self.tiles)) if self.needed is None else sorted(self.needed)
        order = {index: number for number, index in enumerate(needed, start=1)}
        keep, sync = self.keep or self._put, Seldom(self.canvas.sync)

        def write(group: Sequence[int], values: Outputs) -> None:
            keep(group[0], values)
            sync()

        work = Work(
            kind=self.kind,
            groups=[group for group in self.canvas.missing() if group[0] in order],
            read=lambda group: self.read(group[0]),
            compute=self.compute,
            write=write,
            place=lambda group: self._place(group[0]),
        )
        with room_for(self.kind):
            executor.run(work, lambda group: on_tile(order[group[0]], len(order)))
        self.canvas.sync()

    def _put(self, index: int, values: Outputs) -> None:
        self.canvas.put(index, finite(values[0], self.kind))

    def _place(self, index: int) -> str:
        window = self.tiles[index].window
        place = f"at {window.left},{window.top} of {self.tiles.canvas}"
        return f"tile {index + 1} of {len(self.tiles)} to {self.verb}, {place}"


def copied(source: Readable, canvas: Patched, tiles: Grid) -> Readable:
    """A canvas, once those of its tiles that are missing are copied from a source."""

    def read(index: int) -> Tensor:
        return source.read(tiles[index].window)[None]

    def keep(index: int, values: Tensor) -> None:
        canvas.put(index, values[0])

    Filling(canvas, tiles, "a copied tile", "copy", read, _same, keep).run(lambda done, total: None, Serial())
    return canvas


def _same(values: Tensor) -> Tensor:
    return values
