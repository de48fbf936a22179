"""Noise levels from a model's own scheduler: the numbers of diffusers' classes, without their ``step``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from torch import Tensor

from pixelsmith.config.parts import Parts, SchedulerName
from pixelsmith.errors import ModelError, RequestError
from pixelsmith.sampling.schedule import Level, Schedule

_FLOW = "FlowMatchEulerDiscreteScheduler"
_TAKEN_FROM: dict[str, str] = {
    **{name: name for name in (*get_args(SchedulerName), _FLOW)},
    "FlowMatchHeunDiscreteScheduler": _FLOW,
    "DDIMParallelScheduler": "DDIMScheduler",
    "DDPMParallelScheduler": "DDIMScheduler",
    "DDPMScheduler": "DDIMScheduler",
    "DEISMultistepScheduler": "DDIMScheduler",
    "DPMSolverSDEScheduler": "DDIMScheduler",
    "DPMSolverSinglestepScheduler": "DDIMScheduler",
    "HeunDiscreteScheduler": "DDIMScheduler",
    "KDPM2AncestralDiscreteScheduler": "DDIMScheduler",
    "KDPM2DiscreteScheduler": "DDIMScheduler",
    "LMSDiscreteScheduler": "DDIMScheduler",
    "PNDMScheduler": "DDIMScheduler",
}
"""The class whose noise levels are used for each known scheduler. Those with several evaluations per step, or that are
not deterministic steps between levels, are replaced by another class with the same configuration."""


def is_known_scheduler(name: str) -> bool:
    """Whether this is a supported scheduler class of diffusers."""
    return name in _TAKEN_FROM


def scheduler_class(config: Any) -> str:
    """The diffusers class whose noise levels are used for a scheduler's configuration.

    Raises ``ModelError`` for an unsupported scheduler, because its model may need other levels.
    """
    name = str(config["_class_name"])
    taken = _TAKEN_FROM.get(name)
    if taken is None or (taken == "DDIMScheduler" and config.get("use_flow_sigmas")):
        raise ModelError(
            f"scheduler: {name} is not supported, and its model may produce noise with another one; if it works with "
            f"one of {', '.join(get_args(SchedulerName))}, choose that with --scheduler"
        )
    return taken


def with_choice(config: Mapping[str, Any], parts: Parts) -> dict[str, Any]:
    """A scheduler's configuration with the requested scheduler. Raises ``ModelError`` for flow-matching models."""
    asked = {"_class_name": parts.scheduler, "timestep_spacing": parts.timestep_spacing}
    given = {name: value for name, value in asked.items() if value is not None}
    name = str(config.get("_class_name"))
    if given and (name.startswith("FlowMatch") or config.get("use_flow_sigmas")):
        raise ModelError(f"scheduler: the model is for flow matching and keeps its own {name}; leave it out")
    return {**config, **given}


def config_of(scheduler: Any) -> dict[str, Any]:
    """A scheduler's configuration, with the name of its class."""
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


def put_scheduler(pipeline: Any, parts: Parts) -> None:
    """Replace a pipeline's scheduler by the requested one."""
    import diffusers

    config = with_choice(config_of(pipeline.scheduler), parts)
    pipeline.scheduler = getattr(diffusers, config["_class_name"]).from_config(config)


def is_flow(config: Any) -> bool:
    """Whether α = 1 − σ; else α² + σ² = 1."""
    return scheduler_class(config).startswith("FlowMatch") or bool(config.get("use_flow_sigmas"))


def schedule_of(config: Any, steps: int, **arguments: Any) -> Schedule:
    """The levels of ``steps`` steps; ``arguments`` go to ``set_timesteps`` of the scheduler's class.

    Raises ``RequestError`` if the scheduler does not support this number of steps.
    """
    import diffusers

    if steps == 1 and config.get("shift_terminal"):
        raise RequestError("steps: expected at least 2; this model's schedule has a first and a last level of its own")
    scheduler: Any = getattr(diffusers, scheduler_class(config)).from_config(config)
    try:
        scheduler.set_timesteps(steps, **arguments)
    except ValueError as error:
        raise RequestError(f"steps: {type(scheduler).__name__} has no schedule of {steps}: {error}") from error
    # For some numbers of steps, such as 61, trailing timesteps are rounded to one more, which is −1.
    timesteps = [float(t) for t in scheduler.timesteps[:steps]]
    if hasattr(scheduler, "sigmas"):
        sigmas = [*scheduler.sigmas[:steps], scheduler.sigmas[-1]]
        pairs = [_flow(float(s)) if is_flow(config) else _preserving(float(s)) for s in sigmas]
    else:
        pairs = _from_alphas(scheduler, timesteps)
    return _schedule(pairs, [*timesteps, 0.0])


def flow_schedule(config: Any, steps: int, tokens: int, **arguments: Any) -> Schedule:
    """The levels of flow models with evenly spaced σ that are shifted by the number of image tokens.

    The shift μ is linear in ``tokens`` (arXiv 2403.03206, section 5.3.2; the numbers are the scheduler's). Solvers with
    flow levels of their own, DPM-Solver and UniPC, space them themselves, and are given a μ only if they use it.
    """
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, top = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    mu = base + (top - base) * (tokens - low) / (high - low)
    given = {"sigmas": even_sigmas(steps), "mu": mu} | arguments
    if config.get("use_flow_sigmas"):
        given = {"mu": given["mu"]} if config.get("use_dynamic_shifting") else {}
    return schedule_of(config, steps, **given)


def even_sigmas(steps: int) -> list[float]:
    """σ = 1, ..., 1/steps, evenly."""
    return [1 - i / steps for i in range(steps)]


_PREDICTIONS = ("epsilon", "v_prediction", "flow_prediction", "sample")


def clean_estimate(output: Tensor, x: Tensor, level: Level, prediction: str) -> Tensor:
    """x̂0 from the network's output.

    ``prediction``: ``epsilon`` (the noise ε), ``v_prediction`` (``α·ε − σ·z``, arXiv 2202.00512), ``flow_prediction``
    (``ε − z``, arXiv 2209.03003) or ``sample`` (x̂0 itself).
    """
    if prediction == "epsilon":
        return (x - level.sigma * output) / level.alpha
    if prediction == "v_prediction":
        return level.alpha * x - level.sigma * output
    if prediction == "flow_prediction":
        return x - level.sigma * output
    return output


def prediction_of(config: Any) -> str:
    """A model's prediction type, as ``clean_estimate`` names it. Raises ``ModelError`` for unknown ones."""
    found = "flow_prediction" if is_flow(config) else str(config.get("prediction_type", "epsilon"))
    if found not in _PREDICTIONS:
        raise ModelError(f"scheduler: prediction_type: expected one of {', '.join(_PREDICTIONS)}, got {found!r}")
    return found


def _flow(sigma: float) -> tuple[float, float]:
    return 1 - sigma, sigma


def _preserving(ratio: float) -> tuple[float, float]:
    """α and σ from σ/α, which these schedulers call sigma."""
    return 1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio)


def _from_alphas(scheduler: Any, timesteps: Sequence[float]) -> list[tuple[float, float]]:
    last = len(scheduler.alphas_cumprod) - 1
    squares = [float(scheduler.alphas_cumprod[min(int(t), last)]) for t in timesteps]
    # Consistency models return clean latents in the last step, whatever the final α of their table.
    consistent = type(scheduler).__name__ == "LCMScheduler"
    squares.append(1.0 if consistent else float(scheduler.final_alpha_cumprod))
    return [(square**0.5, (1 - square) ** 0.5) for square in squares]


def _schedule(pairs: Sequence[tuple[float, float]], timesteps: Sequence[float]) -> Schedule:
    steps = len(pairs) - 1
    return Schedule(
        tuple(
            Level(alpha=alpha, sigma=sigma, timestep=t, progress=i / steps)
            for i, ((alpha, sigma), t) in enumerate(zip(pairs, timesteps, strict=True))
        )
    )
