"""What a request will do and cost, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pixelsmith.geometry import Size


@dataclass(frozen=True)
class StagePlan:
    """One rung: its picture (pixels), its canvas (latents) and how much there is to do.

    ``patches_per_step``: evaluations of the network in units of the model's native size: a whole canvas in one call
    counts by its area, which is a lower bound, because attention grows faster than the area.
    ``prompts``, ``negatives``: how many different ones a patch has on average, if there are regions. ``doublings``: how
    often the model's network doubles the latents of the guide (``upsampling="learned"``). ``upsampled_tiles``: the
    tiles of each pass of the upsampler that enlarges the picture below, if there is one.
    """

    size: Size
    latent_size: Size
    steps: int
    guided_steps: int
    patches_per_step: float
    fewest_patches_per_step: int
    prompts: float = 1
    negatives: float = 1
    doublings: int = 0
    upsampled_tiles: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a request will do and cost.

    - ``base``: the picture made at the native size, ``None`` where the cascade starts from a given picture.
    - ``stages``: the cascade; empty where the base is large enough.
    - ``model_calls``: evaluations of the network for a patch: two per patch with classifier-free guidance, one more
      with a perturbation, and one for each region's prompt in it. With regions it is estimated from windows spread
      over the picture.
    - ``captions``: how many windows of the stages are captioned.
    - ``encoded_controls``: how many control pictures are encoded in each stage and in the base.
    - ``on_disk``: whether the canvases are kept in a run directory by default, because they are too large for memory.
    - ``canvas_bytes``: of all canvases and pictures, wherever they are kept; ``peak_memory_bytes``; ``file_bytes``: of
      the output in the largest format. All are upper estimates. ``seconds``: ``None`` while unknown.
    """

    base: StagePlan | None
    stages: tuple[StagePlan, ...]
    model_calls: int
    on_disk: bool
    peak_memory_bytes: int
    canvas_bytes: int
    file_bytes: int
    seconds: float | None = None
    captions: int = 0
    encoded_controls: int = 0

    @property
    def disk_bytes(self) -> int:
        """What is needed on disks by default: the output, and the run directory if there is one."""
        return self.file_bytes + (self.canvas_bytes if self.on_disk else 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, sizes as ``[width, height]``."""
        values = asdict(self) | {"disk_bytes": self.disk_bytes}
        for stage in [values["base"], *values["stages"]]:
            if stage is not None:
                for name in ("size", "latent_size"):
                    stage[name] = [stage[name]["width"], stage[name]["height"]]
        return values
