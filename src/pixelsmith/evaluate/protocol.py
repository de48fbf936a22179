"""Protocols: the variants of the method, the pictures to make with each, and the metrics to compute."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from pixelsmith.config.checks import check_flag, check_whole
from pixelsmith.config.compute import Compute
from pixelsmith.config.method import PRESETS, Method
from pixelsmith.config.parts import Parts
from pixelsmith.config.request import EMBEDDED, Request
from pixelsmith.errors import InputError, RequestError
from pixelsmith.evaluate.metrics import METRICS
from pixelsmith.evaluate.upscalers import UPSCALERS
from pixelsmith.geometry import Size
from pixelsmith.system.durable import read_whole
from pixelsmith.system.places import given_place

NAMES = ("table1", "table2", "table3", "sweep", "held")
"""The protocols that come with the package."""
DRY_STEPS = 4
"""Denoising steps of a dry run; with fewer, most positions of the Slider would guide all steps or none."""
MOST_FACTOR = 1000
"""The largest size of a compared picture, as a multiple of the model's native sides."""


@dataclass(frozen=True)
class Variant:
    """A row of a table: a preset with changes to its method, or the base picture enlarged by another upscaler
    (``pixelsmith.evaluate.upscalers``).

    - ``few_steps``: whether stages use the model's few-step LoRA, if it has one; the base does not.
    - ``stages``: the number of stages, with equal factors; ``None`` chooses the cascade.
    - ``series``: the name of a group of variants that differ by the Slider only, if it belongs to one.
    - ``expected``: whether some metrics should be ``higher`` or ``lower`` than the reference's, for claims that the
      table tests.
    """

    name: str
    preset: str = "default"
    method: Mapping[str, Any] = field(default_factory=dict)
    upscaler: str | None = None
    few_steps: bool = False
    stages: int | None = None
    series: str | None = None
    expected: Mapping[str, str] = field(default_factory=dict)

    def at_sliders(self, sliders: Sequence[Any]) -> Iterator[Variant]:
        """The variant at each of these positions of the Slider: a number, or a list with one per stage."""
        for slider in sliders:
            label = ", ".join(f"{share:g}" for share in (slider if isinstance(slider, list) else [slider]))
            method = {**self.method, "slider": slider}
            yield replace(self, name=f"{self.name}, Slider {label}", method=method, series=self.name)

    @property
    def chosen(self) -> Method:
        """The method. Raises ``RequestError`` for invalid values."""
        if self.preset not in PRESETS:
            raise RequestError(f"variant {self.name}: there is no preset {self.preset!r}")
        if self.upscaler is not None and self.upscaler not in UPSCALERS:
            raise RequestError(f"variant {self.name}: there is no upscaler {self.upscaler!r}")
        if self.stages is not None:
            check_whole(f"variant {self.name}: stages", self.stages, least=1)
        check_flag(f"variant {self.name}: few_steps", self.few_steps)
        try:
            return replace(PRESETS[self.preset], **self.method)
        except TypeError as error:
            raise RequestError(f"variant {self.name}: {error}") from error


@dataclass(frozen=True)
class Case:
    """A column of the experiment: prompt, seed and size of a picture of each variant.

    ``factor``: the size as a multiple of the model's native sides.
    """

    prompt: str
    seed: int
    factor: float
    size: Size


@dataclass(frozen=True)
class EvaluationProtocol:
    """An experiment.

    - ``prompts``: for the embedded model and for others; each is combined with every seed.
    - ``factors``: sizes of the pictures, as multiples of the model's native sides, 1 to ``MOST_FACTOR``.
    - ``reference``: the variant that the others are compared with.
    - ``left_out``: the reasons for rows of the paper's table that are missing, by name.
    - ``dry_run``: whether it only shows that everything runs; variants may then make the same pictures.

    Raises ``RequestError`` for inconsistent values.
    """

    name: str
    title: str
    prompts: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    factors: tuple[float, ...]
    metrics: tuple[str, ...]
    reference: str
    variants: tuple[Variant, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names) or self.reference not in names:
            raise RequestError(f"{self.name}: variants need different names, with {self.reference!r} among them")
        if unknown := set(self.metrics) - set(METRICS):
            raise RequestError(
                f"{self.name}: there is no metric {min(unknown)!r}; expected some of {', '.join(METRICS)}"
            )
        if not all(isinstance(some, tuple) and all(type(p) is str for p in some) for some in self.prompts.values()):
            raise RequestError(f"{self.name}: prompts: expected lists of prompts, got {dict(self.prompts)}")
        if not (self.seeds and self.factors and all(self.prompts.values())):
            raise RequestError(f"{self.name}: prompts, seeds and factors must not be empty")
        if any(type(factor) not in (int, float) or not 1 <= factor <= MOST_FACTOR for factor in self.factors):
            raise RequestError(f"{self.name}: factors: expected numbers in 1..{MOST_FACTOR}, got {list(self.factors)}")
        for what, items in {"seeds": self.seeds, "factors": self.factors, **self.prompts}.items():
            # Duplicates would make the intervals too small.
            if len(set(items)) != len(items):
                raise RequestError(f"{self.name}: {what}: expected no duplicates, got {list(items)}")
        check_flag(f"{self.name}: dry_run", self.dry_run)
        if not isinstance(self.left_out, Mapping):
            raise RequestError(f"{self.name}: left_out: expected a table of reasons, got {self.left_out!r}")
        for variant in self.variants:
            _ = variant.chosen
            self._check_expected(variant)

    def _check_expected(self, variant: Variant) -> None:
        said = variant.expected
        if not isinstance(said, Mapping) or not set(said.values()) <= {"higher", "lower"}:
            raise RequestError(f"variant {variant.name}: expected: give higher or lower for each metric, got {said}")
        if unknown := said.keys() - set(self.metrics):
            raise RequestError(f"variant {variant.name}: expected: {min(unknown)!r} is not among the metrics")

    def cases(self, model: str, native: Size) -> Iterator[Case]:
        """The cases, the smallest size first. Raises ``RequestError`` without prompts for the model."""
        kind = "embedded" if model == EMBEDDED else "other"
        if kind not in self.prompts:
            raise RequestError(f"{self.name}: there are no prompts for {model!r}; give some named {kind!r}")
        for factor in sorted(self.factors):
            for seed in self.seeds:
                yield from (Case(prompt, seed, factor, native.scaled(factor)) for prompt in self.prompts[kind])

    def part(
        self, prompts: int | None = None, factors: Sequence[float] = (), only: Sequence[str] = ()
    ) -> EvaluationProtocol:
        """A part of the protocol: the first ``prompts``, other ``factors``, only the variants or series ``only``.

        The reference is always included. Raises ``RequestError`` for an unknown name, or more prompts than there are.
        """
        if prompts is not None:
            check_whole("prompts", prompts, least=1)
            if prompts > (most := min(map(len, self.prompts.values()), default=0)):
                raise RequestError(f"prompts: {self.name} has {most}, got {prompts}")
        if unknown := set(only) - {name for variant in self.variants for name in (variant.name, variant.series)}:
            names = ", ".join(repr(variant.name) for variant in self.variants)
            raise RequestError(f"{self.name}: there is no variant {min(unknown)!r}; expected some of {names}")
        kept = {self.reference, *only}
        return replace(
            self,
            prompts={name: some[:prompts] for name, some in self.prompts.items()},
            factors=tuple(factors) or self.factors,
            variants=tuple(v for v in self.variants if not only or kept & {v.name, v.series}),
        )

    def tiny(self) -> EvaluationProtocol:
        """A dry run of the protocol: two pictures per variant that are just large enough for several patches, in
        ``DRY_STEPS`` steps, and without guidance in stages if it does not distinguish the variants.

        In so few steps, neighbouring positions of the Slider may make the same pictures.
        """
        quick: dict[str, Any] = {"steps": DRY_STEPS, "stage_steps": None}
        if len({variant.method.get("stage_guidance_scale") for variant in self.variants}) == 1:
            quick["stage_guidance_scale"] = 1.0
        return replace(
            self,
            name=f"{self.name}-tiny",
            prompts={name: prompts[:1] for name, prompts in self.prompts.items()},
            seeds=(0, 1),
            factors=(1.5,),
            dry_run=True,
            variants=tuple(replace(variant, method={**variant.method, **quick}) for variant in self.variants),
        )


def request_of(variant: Variant, case: Case, model: str, compute: Compute) -> Request:
    """The request for a variant's picture."""
    stages = variant.stages or 0
    cascade = tuple(case.size.scaled(case.factor ** (stage / stages - 1)) for stage in range(1, stages + 1))
    return Request(
        case.prompt,
        case.size,
        seed=case.seed,
        model=model,
        cascade=cascade,
        method=variant.chosen,
        compute=compute,
        parts=Parts(few_steps=None if variant.few_steps else False),
    )


def base_request(request: Request, native: Size) -> Request:
    """A request for the base picture of a request, with only the settings that affect the base."""
    own = request.method
    method = Method(
        steps=own.steps,
        sampler=own.sampler,
        guidance=own.guidance,
        guidance_scale=own.guidance_scale,
        guidance_rescale=own.guidance_rescale,
        epsilon_scaling=own.epsilon_scaling,
        texture=own.texture,
        guidance_interval=own.guidance_interval,
        perturbation=own.perturbation,
    )
    parts = replace(request.parts, few_steps=False)
    return replace(request, size=native, cascade=(), method=method, parts=parts)


def load_protocol(source: str) -> EvaluationProtocol:
    """Load a protocol of the package, by name, or from a TOML file. Raises ``RequestError``.

    The file has the fields of ``EvaluationProtocol`` and a ``[[variants]]`` for each row, or for a series of rows if it
    has ``sliders``, a list of positions; ``[method]`` is common to all. Without prompts, those of the package's
    protocols are used.
    """
    folder = Path(str(files("pixelsmith.evaluate"))) / "protocols"
    path = folder / f"{source}.toml" if source in NAMES else given_place(source)
    values = {"name": path.stem, **_read(folder / "prompts.toml"), **_read(path)}
    try:
        values["prompts"] = {
            name: tuple(items) if isinstance(items, list) else items for name, items in values["prompts"].items()
        }
        common = values.pop("method", {})
        values["variants"] = tuple(row for variant in values["variants"] for row in _rows(common, **variant))
        values |= {name: tuple(values[name]) for name in ("seeds", "factors", "metrics")}
        return EvaluationProtocol(**values)
    except InputError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        names = ", ".join(item.name for item in fields(EvaluationProtocol))
        raise RequestError(f"{source}: not a protocol ({error}); it needs {names}") from error


def _rows(common: Mapping[str, Any], sliders: Sequence[Any] | None = None, **values: Any) -> Iterable[Variant]:
    """The variants of a ``[[variants]]``; ``common``: the method that all of them have in common."""
    variant = Variant(**{**values, "method": {**common, **values.get("method", {})}})
    return [variant] if sliders is None else variant.at_sliders(sliders)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_whole(path).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(
            f"{path}: it cannot be read as a protocol ({error}); expected one of {', '.join(NAMES)}, or a TOML file"
        ) from error
