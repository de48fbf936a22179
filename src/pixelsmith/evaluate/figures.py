"""The paper's figures, drawn from pictures and plans of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelsmith.canvas import Part
from pixelsmith.config.method import CoverageName
from pixelsmith.config.request import Request
from pixelsmith.errors import MissingPartError
from pixelsmith.evaluate.pictures import Pictures
from pixelsmith.families import find_model, read_facts
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.reading import FilePicture
from pixelsmith.pixels.resample import Resized
from pixelsmith.planning.coverages import coverage_of
from pixelsmith.sampling.chess import chess_mask, chess_phase
from pixelsmith.sampling.grid import ShiftedGrid
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.scattered import RandomCoverage

Pixels = NDArray[np.uint8]
SLIDERS = (0.0, 0.25, 0.4, 0.55, 0.7, 0.85)
SHOWN = 512
"""Pixels a side of a panel at most."""
_FRAMES_A_STEP, _FRAME_MS, _STEPS_SHOWN = 12, 80, 3


@dataclass(frozen=True)
class Scene:
    """What figures are drawn of: a request for the picture, and the folder for pictures and figures.

    Raises ``MissingPartError`` where matplotlib is not there: before a picture is made.
    """

    request: Request
    output: Path

    def __post_init__(self) -> None:
        if not _has_matplotlib():
            raise MissingPartError("figures need matplotlib; run: pip install 'pixelsmith[evaluate]'")

    @property
    def native(self) -> Size:
        return read_facts(find_model(self.request.model), self.request.model).native_size

    @cached_property
    def pictures(self) -> Pictures:
        return Pictures(self.output / "pictures", self.request)

    def picture(self, request: Request) -> FilePicture:
        """A picture of this request, made once."""
        return self.pictures.made(request).read()


def sweep(scene: Scene) -> list[Path]:
    """The Slider's positions in a row, one seed, and a crop of each at full size below."""
    pictures = [scene.picture(scene.request.with_method(slider=slider)) for slider in SLIDERS]
    titles = [f"Slider {slider:g}" for slider in SLIDERS]
    return [_panels(scene.output / "sweep.png", _wholes_and_crops(pictures, scene), titles)]


def steps(scene: Scene) -> list[Path]:
    """The picture made in one stage, and in two, and a crop of each."""
    size = scene.request.size
    half = size.scaled((scene.native.width / size.width) ** 0.5)
    cascades = {"one stage": (size,), "two stages": (half, size)}
    pictures = [scene.picture(replace(scene.request, cascade=cascade)) for cascade in cascades.values()]
    return [_panels(scene.output / "steps.png", _wholes_and_crops(pictures, scene), list(cascades))]


def ladder(scene: Scene) -> list[Path]:
    """From the whole picture down to one patch, twice as near in each panel."""
    picture = scene.picture(scene.request)
    shares, share = [], 1.0
    while share > min(1.0, scene.native.width / picture.size.width) * 1.01:
        shares.append(share)
        share /= 2
    shares.append(scene.native.width / picture.size.width)
    crops = [seen(picture, _middle(picture.size, picture.size.scaled(share))) for share in shares]
    return [_panels(scene.output / "ladder.png", [crops], [f"{1 / share:.3g}x" for share in shares])]


def compare(scene: Scene) -> list[Path]:
    """The base picture, enlarged, against the result: wholes, and crops of them at full size."""
    pictures = [scene.picture(scene.request.with_method(strategy="lanczos")), scene.picture(scene.request)]
    rows = _wholes_and_crops(pictures, scene)
    return [_panels(scene.output / "compare.png", rows, ["base, enlarged", "result"])]


def chess(scene: Scene) -> list[Path]:
    """The two phases of the mask on a patch's corner, and the phases of the patches of one step."""
    facts = read_facts(find_model(scene.request.model), scene.request.model)
    corners = [_grey(chess_mask(16, 16, phase).numpy()) for phase in (0, 1)]
    canvas = facts.latent_size(scene.request.size)
    patches, phases = coverage_of(1, canvas, scene.request, facts).patches(0), np.zeros((canvas.height, canvas.width))
    for i, patch in enumerate(patches):
        window = patches.kept(i)
        phases[window.slices] = 0.25 + 0.5 * chess_phase(scene.request.seed, 1, 0, patch.window)
    names = ["phase 0", "phase 1", "phases of a step's patches"]
    return [_panels(scene.output / "chess.png", [[*corners, _grey(phases)]], names)]


def order(scene: Scene) -> list[Path]:
    """The order of a step's patches, how many steps each latent has moved at moments of it, and an animation."""
    names: tuple[CoverageName, ...] = ("grid", "random")
    frames = {name: list(moved(scene.request.with_method(coverage=name))) for name in names}
    most = max(int(frame.max()) for frame in frames[names[0]])
    moments = [_FRAMES_A_STEP * part // 4 for part in range(1, 5)]
    rows = [[_coloured(frames[name][moment], most) for moment in moments] for name in names]
    still = _panels(
        scene.output / "order.png", rows, [f"{part}/4 of a step" for part in range(1, 5)], ["grid", "random"]
    )
    pairs = zip(frames["grid"], frames["random"], strict=True)
    animation = scene.output / "order.gif"
    images = [Image.fromarray(_enlarged(_coloured(np.concatenate(pair, axis=1), most))) for pair in pairs]
    images[0].save(animation, save_all=True, append_images=images[1:], duration=_FRAME_MS, loop=0)
    return [still, animation]


def moved(request: Request) -> Iterator[NDArray[np.int64]]:
    """How many steps each latent (h, w) has moved, at moments evenly spread over the first steps of a stage.

    Random patches come in the order in which they are drawn, as in the paper; those of a grid in that of their numbers.
    Patches of a step do not depend on each other, so any other order would do.
    """
    facts = read_facts(find_model(request.model), request.model)
    canvas = facts.latent_size(request.size)
    coverage = coverage_of(1, canvas, request, facts)
    state = np.zeros((canvas.height, canvas.width), np.int64)
    yield state.copy()
    for step in range(min(_STEPS_SHOWN, request.method.at(1, facts.recommended).steps)):
        windows = _in_order(coverage, step)
        ends = np.linspace(0, len(windows), _FRAMES_A_STEP + 1).round().astype(int)
        for first, last in pairwise(ends):
            for window in windows[first:last]:
                state[window.slices] = step + 1
            yield state.copy()


def _in_order(coverage: ShiftedGrid | RandomCoverage, step: int) -> list[Window]:
    """Where the patches of a step move latents, one after another."""
    if isinstance(coverage, RandomCoverage):
        return [window for window, _ in coverage.windows(step)]
    grid = coverage.patches(step)
    return [grid.kept(i) for i in range(len(grid))]


FIGURES: dict[str, Callable[[Scene], list[Path]]] = {
    "sweep": sweep, "order": order, "chess": chess, "steps": steps, "ladder": ladder, "compare": compare,
}  # fmt: skip
"""Figures by name; each returns the files that it wrote."""


def seen(picture: Readable, window: Window) -> Pixels:
    """A window of a picture as a panel shows it: (h, w, 3), scaled down where it is larger than SHOWN."""
    part = Part(picture, window)
    factor = min(1.0, SHOWN / max(window.width, window.height))
    size = part.size.scaled(factor)
    return np.asarray(Resized(part, part.size, size, "lanczos").read(size.window).permute(1, 2, 0))


def _wholes_and_crops(pictures: Sequence[Readable], scene: Scene) -> list[list[Pixels]]:
    """A row of whole pictures, and one of what is in their middle at full size."""
    wholes = [seen(picture, picture.size.window) for picture in pictures]
    return [wholes, [seen(picture, _middle(picture.size, scene.native)) for picture in pictures]]


def _has_matplotlib() -> bool:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def _middle(size: Size, crop: Size) -> Window:
    width, height = min(crop.width, size.width), min(crop.height, size.height)
    return Window((size.height - height) // 2, (size.width - width) // 2, height, width)


def _grey(values: NDArray[Any]) -> Pixels:
    return np.repeat((255 * values).astype(np.uint8)[..., None], 3, axis=2)


def _coloured(values: NDArray[np.int64], most: int) -> Pixels:
    """Steps as colours from dark blue to yellow."""
    share = (values / max(1, most))[..., None]
    return (np.array([40, 30, 90]) * (1 - share) + np.array([250, 220, 60]) * share).astype(np.uint8)


def _enlarged(frame: Pixels) -> Pixels:
    factor = max(1, SHOWN // frame.shape[1])
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def _panels(path: Path, rows: Sequence[Sequence[Pixels]], titles: Sequence[str], sides: Sequence[str] = ()) -> Path:
    """Pictures in rows with titles above, and names of the rows beside."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 * len(titles), 2.5 * len(rows)), dpi=200, layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for i, row in enumerate(rows):
        for axis, pixels in zip(axes[i], row, strict=True):
            axis.imshow(pixels, interpolation="nearest" if max(pixels.shape) < SHOWN else None)
            axis.set(xticks=[], yticks=[])
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    for axis, side in zip(axes[:, 0], sides, strict=False):
        axis.set_ylabel(side, fontsize=9)
    figure.savefig(path)
    return path
