"""Running a protocol: checks, pictures, metrics, and differences from the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.api.functions import plan
from pixelsmith.config.compute import Compute
from pixelsmith.config.method import Method
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.plans import Plan
from pixelsmith.config.request import Request
from pixelsmith.config.strategies import STRATEGIES
from pixelsmith.errors import PictureError, PixelsmithError, RequestError
from pixelsmith.evaluate.jackknife import Estimate, difference, estimate, without_each
from pixelsmith.evaluate.metrics import Kept, Metric, Tools, load_metric
from pixelsmith.evaluate.pictures import Made, Pictures
from pixelsmith.evaluate.protocol import Case, EvaluationProtocol, Variant, request_of
from pixelsmith.evaluate.seams import Borders
from pixelsmith.evaluate.shots import Shot
from pixelsmith.evaluate.unavailable import UnavailableError
from pixelsmith.evaluate.upscalers import Upscaler, UpscalerWeights, load_upscaler
from pixelsmith.families import find_model, read_facts
from pixelsmith.geometry import Size
from pixelsmith.planning.coverages import coverage_of
from pixelsmith.planning.stage_sizes import base_size, cascade_of
from pixelsmith.sampling.grid import ShiftedGrid
from pixelsmith.sampling.scattered import RandomCoverage

Say = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """The parameters of an experiment besides its protocol; ``tools`` by factor, on which real pictures depend."""

    model: str
    compute: Compute
    tools: Callable[[float], Tools]
    weights: UpscalerWeights


@dataclass(frozen=True)
class Row:
    """A variant at a size: its pictures, its metrics, and their paired differences from the reference."""

    variant: str
    size: Size
    cases: Sequence[Case]
    made: Sequence[Made]
    values: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]

    @property
    def seconds(self) -> float:
        """The median time per picture, over those made without an interruption."""
        known = [made.seconds for made in self.made if math.isfinite(made.seconds)]
        return float(np.median(known)) if known else math.nan

    @property
    def peak_bytes(self) -> int:
        return max(made.peak_bytes for made in self.made)


@dataclass(frozen=True)
class Outcome:
    """The results of an experiment.

    ``better``: the better direction of each metric; ``left_out``: the reasons for missing rows and metrics, by name;
    ``provenance``: the model, machine and versions of the pictures.
    """

    protocol: EvaluationProtocol
    rows: Sequence[Row]
    better: Mapping[str, str]
    left_out: Mapping[str, str]
    provenance: Mapping[str, Any]


def run(
    protocol: EvaluationProtocol,
    output: Path,
    setting: Setting,
    say: Say = print,
    on_row: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Generate the missing pictures (``output/pictures``) and compute the metrics of all.

    ``on_row`` is called with the results so far after each row. A row that cannot be made (too little memory, a refused
    prompt) is left out with the reason. Raises ``InputError`` before any long work if a variant, the model, or an input
    of a metric cannot be used.
    """
    facts = read_facts(find_model(setting.model, weights=False), setting.model)
    cases = list(protocol.cases(setting.model, facts.native_size))
    pictures_a_row = len(cases) // len(protocol.factors)
    found = {factor: _metrics(protocol, setting.tools(factor), pictures_a_row) for factor in protocol.factors}
    metrics, left_out = {factor: taken for factor, (taken, _) in found.items()}, found[protocol.factors[0]][1]
    upscalers, without = _upscalers(protocol, setting.weights)
    without |= _without_network(protocol, facts)
    variants = [variant for variant in protocol.variants if variant.name not in without]
    # A plan does not depend on prompt and seed, so one case of each size is planned.
    sizes = {case.size: case for case in cases}.values()
    plans = {
        variant.name: [plan(request_of(variant, case, setting.model, setting.compute)) for case in sizes][-1]
        for variant in variants
    }
    if not protocol.dry_run:
        _check_different(variants, plans, facts)
    try:
        pictures = Pictures(output / "pictures", request_of(variants[0], cases[0], setting.model, setting.compute))
    except OSError as error:
        raise PictureError(f"{output}: pictures cannot be kept there ({error.strerror})") from error
    digests = {variant.name: setting.weights.digest(variant.upscaler or "") for variant in variants}
    lab = _Lab(facts, setting, pictures, upscalers, digests, metrics)
    better = {name: metric.better for name, metric in metrics[protocol.factors[0]].items()}
    used = {f"{name}_sha256": digest for name, digest in digests.items() if digest}
    provenance = {**pictures.provenance, "upscalers": used}
    nothing = outcome = Outcome(protocol, [], better, {**protocol.left_out, **left_out, **without}, provenance)
    for outcome in _outcomes(nothing, variants, cases, lab, say):
        on_row(outcome)
    if not outcome.rows:
        raise RequestError(f"{protocol.name}: no row could be made: {'; '.join(outcome.left_out.values())}")
    return outcome


def _check_different(variants: Sequence[Variant], plans: Mapping[str, Plan], facts: ModelFacts) -> None:
    """Raise ``RequestError`` for variants with the same pictures, such as two Sliders with the same guided steps."""
    seen: dict[object, str] = {}
    for variant in variants:
        method, strategy = variant.chosen.settled(facts.recommended), STRATEGIES[variant.chosen.strategy]
        stages = plans[variant.name].stages
        methods = [method.at(number, facts.recommended, len(stages)) for number in range(1, len(stages) + 1)]
        rungs = tuple(
            (stage.size, strategy.weights(own), own.slider if strategy.merge_of(own) == "hold" else None)
            for stage, own in zip(stages, methods, strict=True)
        )
        what = (
            variant.upscaler,
            variant.few_steps,
            rungs,
            replace(method, slider=0.0, slider_steps=0.0, slider_fade=0.0),
        )
        if (other := seen.setdefault(what, variant.name)) != variant.name:
            raise RequestError(f"variants {other!r} and {variant.name!r} make the same pictures; leave out one of them")


def _metrics(protocol: EvaluationProtocol, tools: Tools, pictures: int) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics that can be computed from so many pictures, and the reasons why others cannot."""
    found, missing = {}, {}
    for name in protocol.metrics:
        try:
            metric = load_metric(name, tools)
        except UnavailableError as reason:
            missing[name] = str(reason)
            continue
        if metric.least <= pictures:
            found[name] = metric
        else:
            missing[name] = f"it needs at least {metric.least} pictures of a size, there are {pictures}"
    return found, missing


def _upscalers(protocol: EvaluationProtocol, weights: UpscalerWeights) -> tuple[dict[str, Upscaler], dict[str, str]]:
    """The upscalers by their variant's name, and the reasons why others are not available."""
    found, missing = {}, {}
    for variant in protocol.variants:
        try:
            if variant.upscaler is not None:
                found[variant.name] = load_upscaler(variant.upscaler, weights)
        except UnavailableError as reason:
            if variant.name == protocol.reference:
                raise RequestError(f"{variant.name}: the others are compared with it, and {reason}") from reason
            missing[variant.name] = str(reason)
    return found, missing


def _without_network(protocol: EvaluationProtocol, facts: ModelFacts) -> dict[str, str]:
    """The reasons why variants cannot be made that need a network which the model does not have."""
    needing = [v for v in protocol.variants if v.chosen.upsampling == "learned" and not facts.doubles_latents]
    if any(variant.name == protocol.reference for variant in needing):
        return {}
    return {variant.name: "the model has no network that enlarges latents" for variant in needing}


@dataclass(frozen=True)
class _Lab:
    """Generates pictures and computes metrics of them."""

    facts: ModelFacts
    setting: Setting
    pictures: Pictures
    upscalers: Mapping[str, Upscaler]
    digests: Mapping[str, str]
    metrics: Mapping[float, Mapping[str, Metric]]

    def made(self, variant: Variant, case: Case) -> Made:
        request = self._request(variant, case)
        if variant.name in self.upscalers:
            name = f"{variant.upscaler} {self.digests[variant.name]}"
            return self.pictures.enlarged(request, name, self.upscalers[variant.name])
        return self.pictures.made(request)

    def kept(self, variant: Variant, case: Case, made: Made, reference: Made | None) -> dict[str, Kept]:
        """The values that each metric needs of a picture; ``reference``: the reference's picture of the same case."""
        request = self._request(variant, case)
        shot = Shot(
            prompt=case.prompt,
            picture=made.read(),
            base=self.pictures.base(request),
            borders=borders_of(request, self.facts),
            spacing=min(self.facts.native_size.width, self.facts.native_size.height),
            stride=stride_of(request, self.facts),
            seed=case.seed,
            reference=None if reference is None else reference.read(),
        )
        return {name: metric.describe(shot) for name, metric in self.metrics[case.factor].items()}

    def _request(self, variant: Variant, case: Case) -> Request:
        return request_of(variant, case, self.setting.model, self.setting.compute)


def borders_of(request: Request, facts: ModelFacts) -> Borders:
    """The borders of the last step's patches and of the decoder's tiles in the picture of a request."""
    coverage, last = _last(request, facts)
    canvas, scale = facts.latent_size(request.size), facts.latent_scale
    tilings = [coverage.patches(last), facts.tiling.tiles(canvas)]
    return Borders.of(tilings, request.size.padded(scale).divided(scale), scale)


def stride_of(request: Request, facts: ModelFacts) -> Size:
    """The distance from one patch of the last stage to the next, in pixels."""
    stride = _last(request, facts)[0].stride
    return Size(stride.width * facts.latent_scale, stride.height * facts.latent_scale)


def _last(request: Request, facts: ModelFacts) -> tuple[ShiftedGrid | RandomCoverage, int]:
    """The coverage of the last stage, and its last step.

    For a picture without patches, those of the default method are used, so that it serves as a control.
    """
    base = base_size(request.size, facts.native_size)
    if not cascade_of(request, base, None, facts):
        request = Request(request.prompt, request.size, seed=request.seed, model=request.model, method=Method())
    stages = len(cascade_of(request, base, None, facts))
    last = request.method.at(stages, facts.recommended).steps - 1
    return coverage_of(stages, facts.latent_size(request.size), request, facts), last


def _outcomes(
    outcome: Outcome, variants: Sequence[Variant], cases: Sequence[Case], lab: _Lab, say: Say
) -> Iterator[Outcome]:
    """The results after each row, size by size, with the reference first, because others are compared with it."""
    order = [variant.name for variant in variants]
    for size, group in groupby(cases, key=lambda case: case.size):
        of_size, reference, done = list(group), _Numbers(), list(outcome.rows)
        compared: Sequence[Made | None] = [None] * len(of_size)
        found: dict[str, Row] = {}
        for variant in sorted(variants, key=lambda variant: variant.name != outcome.protocol.reference):
            try:
                made = _made(variant, of_size, lab, say)
                compared = made if variant.name == outcome.protocol.reference else compared
                numbers = _Numbers.of(
                    [lab.kept(variant, *some) for some in zip(of_size, made, compared, strict=True)], of_size, lab
                )
            except (PixelsmithError, torch.OutOfMemoryError, MemoryError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                outcome = replace(outcome, left_out={**outcome.left_out, f"{variant.name}, {size}": reason})
                yield outcome
                continue
            reference = numbers if variant.name == outcome.protocol.reference else reference
            apart = numbers.differences_from(reference)
            found[variant.name] = Row(variant.name, size, of_size, made, numbers.estimates, apart)
            outcome = replace(outcome, rows=[*done, *sorted(found.values(), key=lambda row: order.index(row.variant))])
            yield outcome


def _made(variant: Variant, cases: Sequence[Case], lab: _Lab, say: Say) -> list[Made]:
    made = []
    for i, case in enumerate(cases, start=1):
        made.append(lab.made(variant, case))
        say(f"{variant.name} {case.size}: picture {i} of {len(cases)}, {made[-1].seconds:.1f} s")
    return made


@dataclass(frozen=True)
class _Numbers:
    """The value of each metric for a variant, and its values without each prompt."""

    values: Mapping[str, float] = field(default_factory=dict)
    without: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of(cls, kept: Sequence[Mapping[str, Kept]], cases: Sequence[Case], lab: _Lab) -> _Numbers:
        prompts = [case.prompt for case in cases]
        values, without = {}, {}
        for name, metric in lab.metrics[cases[0].factor].items():
            mine = [picture[name] for picture in kept]
            values[name], without[name] = _valued(metric, mine), without_each(metric.value, mine, prompts)
        return cls(values, without)

    @property
    def estimates(self) -> dict[str, Estimate]:
        return {name: estimate(value, self.without[name]) for name, value in self.values.items()}

    def differences_from(self, other: _Numbers) -> dict[str, Estimate]:
        """The differences; not numbers if there is no other."""
        return {
            name: difference(
                value, other.values.get(name, math.nan), self.without[name], other.without.get(name, self.without[name])
            )
            for name, value in self.values.items()
        }


def _valued(metric: Metric, kept: Sequence[Kept]) -> float:
    value = metric.value(kept)
    return value if math.isfinite(value) else float("nan")
