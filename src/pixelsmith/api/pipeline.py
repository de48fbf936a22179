"""Pixelsmith with the interface of a diffusers pipeline, built from one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.api.held import HeldModel
from pixelsmith.config.method import PRESETS, Method
from pixelsmith.config.plans import Plan
from pixelsmith.config.request import Request
from pixelsmith.engine.cancel import CancelToken
from pixelsmith.errors import RequestError
from pixelsmith.events import Event, Observer, Progress, RunStarted, silent
from pixelsmith.families.loading.pipelines import (
    family_of,
    network_dtype,
    pipeline_digest,
    pipeline_facts,
    read_pipeline,
)
from pixelsmith.geometry import Size

StepEnd = Callable[["PixelsmithPipeline", int, float, dict[str, Any]], object]
"""Called with the pipeline, the index of the step across all stages, its timestep, and a dict of progress values."""
_SHAPES: dict[str, Callable[[list[NDArray[np.uint8]]], Any]] = {
    "pil": lambda pictures: [_to_pil(pixels) for pixels in pictures],
    "np": lambda pictures: np.stack(pictures).astype(np.float32) / 255,
    "pt": lambda pictures: torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255,
}
_NAMES = {"num_inference_steps": "steps"}
"""Diffusers' names of fields of ``Method``."""
_ELSEWHERE = {"prompt", "size", "model", "parts", "compute"}
"""Fields of a request that are separate arguments, or that the pipeline decides."""


@dataclass(frozen=True)
class PipelineOutput:
    """``images``: PIL images; or with ``output_type="np"`` (n, H, W, 3), with ``"pt"`` (n, 3, H, W), both in 0..1."""

    images: Any


class PixelsmithPipeline:
    """A diffusers pipeline that makes pictures of any size. ``pipeline`` is the pipeline that it wraps.

    The wrapped pipeline is neither copied nor changed: offloading, LoRAs, quantisation and schedulers are set there.

    Examples:
        >>> from pixelsmith import PixelsmithPipeline
        >>> pipe = PixelsmithPipeline.from_pretrained("embedded")
        >>> pipe.pipeline.set_progress_bar_config(disable=True)
        >>> pipe("map of a coast", width=320, height=256, num_inference_steps=2, texture=0).images[0].size
        (320, 256)
    """

    def __init__(self, pipeline: Any) -> None:
        pipeline_facts(pipeline)
        self.pipeline = pipeline
        self._interrupt = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **options: Any) -> Self:
        """With the options of ``DiffusionPipeline.from_pretrained``; ``embedded`` is the model of this package.

        Raises ``ModelError`` for an unsupported pipeline class, and what diffusers raises.
        """
        return cls(read_pipeline(str(pretrained_model_name_or_path), **options))

    @classmethod
    def from_pipe(cls, pipeline: Any) -> Self:
        """Wrap a loaded pipeline, whose weights are shared. Raises ``ModelError`` for an unsupported class."""
        return cls(pipeline.pipeline if isinstance(pipeline, PixelsmithPipeline) else pipeline)

    def to(self, *args: Any, **options: Any) -> Self:
        """Move the wrapped pipeline, with the arguments of its ``to``."""
        self.pipeline.to(*args, **options)
        return self

    @contextmanager
    def loaded(self) -> Iterator[HeldModel]:
        """The same as a ``LoadedModel``: to plan, to preview, or to make files that are larger than memory."""
        pipeline = self.pipeline
        with family_of(pipeline) as family:
            yield HeldModel(family, network_dtype(pipeline), lambda: pipeline_digest(pipeline))

    def __call__(
        self,
        prompt: str | Sequence[str],
        width: int | None = None,
        height: int | None = None,
        image: Any = None,
        preset: str = "default",
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback_on_step_end: StepEnd | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        observer: Observer = silent,
        **options: Any,
    ) -> Any:
        """Make a picture for each prompt: a ``PipelineOutput``, or without ``return_dict`` a tuple of its ``images``.

        - ``width``, ``height``: in pixels, at most ``MAX_SIDE``; by default those that the model was trained at.
        - ``image``: a picture to start from (PIL, or a path). ``options``: more fields of ``Method`` (such as
          ``slider``) and ``Request`` (such as ``negative_prompt``), over those of the ``preset``;
          ``num_inference_steps`` is ``steps``. ``slider_map`` and ``mask`` may be PIL images, too.
        - ``generator``: one, or one for each prompt. A generator that has not been used gives its seed; one that
          was drawn from gives another seed at each call.
        - ``callback_on_step_end(pipe, step, timestep, known)``: after each denoising step of all stages; ``known`` has
          ``stage``, ``stages``, ``share`` (0..1, of the time) and ``seconds_left``. What it returns is not used; where
          it sets ``pipe._interrupt``, the call ends with ``CancelledError``.
        - ``observer``: is called with each ``pixelsmith.Event``.

        Raises as ``pixelsmith.generate`` does.
        """
        if output_type not in _SHAPES:
            raise RequestError(f"output type: expected one of {', '.join(_SHAPES)}, got {output_type!r}")
        self._interrupt = False
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        generators = list(generator) if isinstance(generator, Sequence) else [generator] * len(prompts)
        if len(generators) != len(prompts):
            raise RequestError(f"generator: expected one, or {len(prompts)} for as many prompts; got {len(generators)}")
        pictures = []
        with self.loaded() as model, TemporaryDirectory(prefix="pixelsmith-") as folder:
            native = model.facts.native_size
            size = Size(width or native.width, height or native.height)
            values = _values(preset, {**options, "from_image": image}, Path(folder))
            for number, (text, drawn) in enumerate(zip(prompts, generators, strict=True)):
                request = model.request(text, size, **{"seed": seed_of(drawn), **values})
                steps = _Steps(self, model, request, callback_on_step_end, observer)
                # What is too large for memory is read from there once more.
                run_dir = Path(folder) / f"run-{number}" if model.plan(request).on_disk else None
                with steps:
                    pictures.append(model.generate(request, None, steps, run_dir, cancel=steps.token).pixels)
        images = _SHAPES[output_type](pictures)
        return PipelineOutput(images) if return_dict else (images,)


def seed_of(generator: torch.Generator | None) -> int:
    """The seed of a new generator; of one that was used, and of PyTorch's own (``None``), a number that it draws."""
    if generator is None:
        return int(torch.randint(2**63 - 1, ()))
    seed = generator.initial_seed()
    new = torch.Generator(generator.device).manual_seed(seed)
    unused = torch.equal(new.get_state(), generator.get_state())
    # Another picture at the next call.
    drawn = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    return seed % 2**64 if unused else drawn


def _values(preset: str, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The fields of a request that options stand for; pictures among them are kept as files in the folder."""
    if preset not in PRESETS:
        raise RequestError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
    method, request = ({item.name for item in fields(kind)} for kind in (Method, Request))
    own, rest = dict[str, Any](), dict[str, Any]()
    for given, value in options.items():
        name = _NAMES.get(given, given)
        if name not in (method | request) - _ELSEWHERE:
            raise RequestError(f"{given}: there is no such option; see the fields of pixelsmith.Method and Request")
        (own if name in method else rest)[name] = _as_file(name, value, folder)
    chosen: Method = rest.pop("method", PRESETS[preset])
    return {**rest, "method": replace(chosen, **own)}


def _as_file(name: str, value: Any, folder: Path) -> Any:
    """A PIL image as the path of a file, anything else as it is. Raises ``RequestError`` for arrays and odd images."""
    if isinstance(value, np.ndarray | torch.Tensor):
        raise RequestError(f"{name}: expected a PIL image or a path, got {type(value).__name__}")
    if not hasattr(value, "save"):
        return str(value) if isinstance(value, Path) else value
    # PNG has no CMYK.
    place = folder / f"{name}.{'tif' if value.mode == 'CMYK' else 'png'}"
    try:
        value.save(place, compress_level=1)
    except OSError as error:
        raise RequestError(f"{name}: a PIL image of mode {value.mode} cannot be used; convert it to RGB") from error
    return str(place)


def _to_pil(pixels: NDArray[np.uint8]) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


class _Steps:
    """An observer that says when steps end, to a callback and to the pipeline's own bar."""

    def __init__(
        self,
        pipe: PixelsmithPipeline,
        model: HeldModel,
        request: Request,
        callback: StepEnd | None,
        observer: Observer,
    ) -> None:
        self.token = CancelToken()
        self._pipe, self._model, self._request = pipe, model, request
        self._callback, self._observer = callback, observer
        self._plan: Plan | None = None
        self._done = 0
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, event: Event) -> None:
        self._observer(event)
        if isinstance(event, RunStarted):
            rungs = [event.plan.base, *event.plan.stages]
            self._plan = event.plan
            self._bar = self._pipe.pipeline.progress_bar(total=sum(rung.steps for rung in rungs if rung is not None))
        elif isinstance(event, Progress) and event.phase == "denoise" and event.done == event.total:
            self._ended(event)

    def _ended(self, event: Progress) -> None:
        self._bar.update()
        step, self._done = self._done, self._done + 1
        if self._callback is None or self._plan is None:
            return
        stages = len(self._plan.stages)
        own = self._request.method.at(event.stage, self._model.facts.recommended, stages)
        level = self._model.load().schedule(own.schedule_steps).last(own.steps).levels[event.step - 1]
        known = {"stage": event.stage, "stages": stages, "share": event.share, "seconds_left": event.seconds_left}
        self._callback(self._pipe, step, level.timestep, known)
        if self._pipe._interrupt:
            self.token.cancel()
