"""The nodes."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import comfy.samplers
import folder_paths
import numpy as np
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from pixelsmith import PRESETS, HeldModel, Method, RequestError, Size
from pixelsmith.extension import Recommended, RunDirectory, open_file, settings_of

from .making import Wanted, make
from .progress import Shown

MethodType = io.Custom("PIXELSMITH_METHOD")
LARGEST, LARGEST_FILE = 16_384, 1_000_000
"""The most pixels on a side of a picture for other nodes, and of one in a file."""
PREVIEW = 1024
"""The default pixels on the longer side of a view of a file."""
KINDS = ("tif", "png", "jpg", "webp", "dzi", "zip")
"""File formats, as in ``pixelsmith.pixels.files.FORMATS``."""


def _inputs(largest: int) -> list[io.Input]:
    """The inputs of both nodes that make pictures."""
    side: dict[str, Any] = {"min": 16, "max": largest, "step": 8}
    return [
        io.Model.Input("model"),
        io.Conditioning.Input("positive"),
        io.Conditioning.Input("negative"),
        io.Vae.Input("vae"),
        io.Int.Input("width", default=4096, tooltip="Pixels of the result.", **side),
        io.Int.Input("height", default=4096, tooltip="Pixels of the result.", **side),
        io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True),
        io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Denoising steps of each stage."),
        io.Float.Input("cfg", default=5.0, min=0.0, max=100.0, step=0.1, round=0.01),
        io.Combo.Input("scheduler", options=comfy.samplers.SCHEDULER_NAMES, default="normal"),
        io.Float.Input(
            "slider",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="How much of the smaller picture's content is held: 1 is all of it, 0 is none.",
        ),
        io.Image.Input("image", optional=True, tooltip="A picture to enlarge; without it one is made first."),
        io.Mask.Input("slider_map", optional=True, tooltip="The Slider at each place: white is 1, black is 0."),
        io.Mask.Input("mask", optional=True, tooltip="The part of the picture to refine, in white; black stays."),
        MethodType.Input("method", optional=True, tooltip="More choices, from the node Pixelsmith Method."),
    ]


def _wanted(given: dict[str, Any]) -> Wanted:
    """Raises ``RequestError``."""
    chosen = given.pop("method", None) or {"method": PRESETS["default"]}
    size = Size(given.pop("width"), given.pop("height"))
    return Wanted(size=size, **given, **chosen)


def _as_image(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 as ComfyUI's pictures: (1, H, W, 3) in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float()[None] / 255


class PixelsmithGenerate(io.ComfyNode):
    """A picture of any size that fits in memory."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PixelsmithGenerate",
            display_name="Pixelsmith",
            category="sampling/pixelsmith",
            description="Makes a picture of any size, or enlarges one, with a model as it is.",
            inputs=_inputs(LARGEST),
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        wanted, found = _wanted(given), list[Tensor]()
        with TemporaryDirectory(prefix="pixelsmith-", dir=_temporary()) as folder:

            def use(model: HeldModel, shown: Shown) -> None:
                request = wanted.request(model, Path(folder))
                run_dir = Path(folder) / "run" if model.plan(request).on_disk else None
                found.append(_as_image(model.generate(request, None, shown, run_dir).pixels))

            make(wanted, use)
        return io.NodeOutput(*found)


class PixelsmithToFile(io.ComfyNode):
    """A picture in a file, also larger than memory; an interrupted run is resumed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PixelsmithToFile",
            display_name="Pixelsmith to file",
            category="sampling/pixelsmith",
            description="Writes a picture of any size to a file. Queue it again to resume after an interruption.",
            is_output_node=True,
            inputs=[
                *_inputs(LARGEST_FILE),
                io.String.Input("filename_prefix", default="pixelsmith/picture"),
                io.Combo.Input("kind", options=list(KINDS), default="tif", tooltip="tif, dzi and zip are pyramids."),
            ],
            outputs=[io.String.Output(display_name="path"), io.Image.Output(display_name="preview")],
        )

    @classmethod
    def execute(cls, filename_prefix: str, kind: str, **given: Any) -> io.NodeOutput:
        wanted = _wanted(given)
        folder, name, number, _, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), wanted.size.width, wanted.size.height
        )
        path = Path(folder) / f"{name}_{number:05}_.{kind}"
        # Named by its inputs, so that the run is found again whatever number the file gets.
        work = Path(folder) / f".pixelsmith-{wanted.digest[:16]}"

        def use(model: HeldModel, shown: Shown) -> None:
            if RunDirectory(work / "run").begun:
                model.resume(work / "run", shown, path)
            else:
                work.mkdir(exist_ok=True)
                model.generate(wanted.request(model, work), path, shown, work / "run")

        make(wanted, use)
        shutil.rmtree(work, ignore_errors=True)
        preview = _place(path, 0.5, 0.5, 1.0, PREVIEW)
        return io.NodeOutput(str(path), preview, ui=ui.PreviewImage(preview, cls=cls))


class PixelsmithView(io.ComfyNode):
    """A view of a part of a picture file of any size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PixelsmithView",
            display_name="Pixelsmith view",
            category="image/pixelsmith",
            description="Shows a part of a picture file, and reads only that part.",
            is_output_node=True,
            inputs=[
                io.String.Input("path", tooltip="A file in ComfyUI's folders for output, input or temporary files."),
                io.Float.Input("x", default=0.5, min=0.0, max=1.0, step=0.01, tooltip="The middle, from the left."),
                io.Float.Input("y", default=0.5, min=0.0, max=1.0, step=0.01, tooltip="The middle, from the top."),
                io.Float.Input(
                    "share",
                    default=1.0,
                    min=0.0001,
                    max=1.0,
                    step=0.0001,
                    round=0.0001,
                    tooltip="How much of the picture's sides is shown: 1 is all, 0.01 a hundredth of each.",
                ),
                io.Int.Input(
                    "most", default=PREVIEW, min=16, max=LARGEST, tooltip="Pixels of the longer side, at most."
                ),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def fingerprint_inputs(cls, path: str | None, **given: Any) -> float:
        """The file's modification time; a path from another node is not known yet."""
        place = None if path is None else _allowed(path)
        return place.stat().st_mtime if place is not None and place.exists() else 0.0

    @classmethod
    def execute(cls, path: str, x: float, y: float, share: float, most: int) -> io.NodeOutput:
        found = _place(_allowed(path), x, y, share, most)
        return io.NodeOutput(found, ui=ui.PreviewImage(found, cls=cls))


class PixelsmithMethod(io.ComfyNode):
    """Further options of denoising."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        settings = {one.name: one for one in settings_of(Method)}
        return io.Schema(
            node_id="PixelsmithMethod",
            display_name="Pixelsmith method",
            category="sampling/pixelsmith",
            description="Further options of denoising, as described in Pixelsmith's documentation of options.",
            inputs=[
                io.Combo.Input("preset", options=list(PRESETS), default="default"),
                *(
                    io.Combo.Input(name, options=["as the preset", *settings[name].choices])
                    for name in ("sampler", "merge", "coverage")
                ),
                io.Float.Input("slider_steps", default=Recommended().slider_steps, min=0.0, max=1.0, step=0.01),
                io.Int.Input(
                    "native",
                    default=0,
                    min=0,
                    max=4096,
                    step=8,
                    tooltip="Pixels that the model was trained "
                    "at; 0 for the known size: 512 for Stable Diffusion 1, 768 for 2, else 1024.",
                ),
                io.Int.Input("batch_size", default=0, min=0, max=64, tooltip="Patches in a call; 0 is automatic."),
            ],
            outputs=[MethodType.Output(display_name="method")],
        )

    @classmethod
    def execute(cls, preset: str, native: int, batch_size: int, **given: Any) -> io.NodeOutput:
        chosen = {name: value for name, value in given.items() if value != "as the preset"}
        usual = {item.name: getattr(PRESETS[preset], item.name) for item in fields(Method)}
        return io.NodeOutput({"method": Method(**usual | chosen), "native": native, "batch_size": batch_size or None})


NODES: list[type[io.ComfyNode]] = [PixelsmithGenerate, PixelsmithToFile, PixelsmithView, PixelsmithMethod]


def _temporary() -> str:
    folder = folder_paths.get_temp_directory()
    Path(folder).mkdir(parents=True, exist_ok=True)
    return str(folder)


def _allowed(path: str) -> Path:
    """Resolve a path in one of ComfyUI's folders, relative to the output folder. Raises ``RequestError``."""
    output = Path(folder_paths.get_output_directory())
    place = (output / path).resolve()
    folders = (output, folder_paths.get_input_directory(), folder_paths.get_temp_directory())
    if not any(place.is_relative_to(Path(folder).resolve()) for folder in folders):
        raise RequestError(f"path: expected a file in one of ComfyUI's folders, such as {output}; got {path}")
    return place


def _place(path: Path, x: float, y: float, share: float, most: int) -> Tensor:
    """A part of a picture file as (1, h, w, 3) in 0..1, scaled down to at most ``most`` pixels on a side."""
    file = open_file(path)
    width, height = (max(1, round(side * share)) for side in (file.size.width, file.size.height))
    left = min(max(round(x * file.size.width) - width // 2, 0), file.size.width - width)
    top = min(max(round(y * file.size.height) - height // 2, 0), file.size.height - height)
    size = Size(width, height).scaled(min(1.0, most / max(width, height)))
    return _as_image(np.array(file.look((left, top, left + width, top + height), size)))
