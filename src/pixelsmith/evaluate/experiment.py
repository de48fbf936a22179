"""Run a protocol: check all of it, make the pictures, take the metrics, say what differs from the reference."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelsmith.errors import PictureError, RequestError
from pixelsmith.evaluate.bootstrap import Estimate, difference, draws, estimate, replicates
from pixelsmith.evaluate.metrics import Kept, Metric, Tools, UnavailableError, load_metric
from pixelsmith.evaluate.pictures import Made, Pictures
from pixelsmith.evaluate.protocol import Case, Protocol, Variant, request_of
from pixelsmith.evaluate.seams import Borders
from pixelsmith.evaluate.shots import Shot
from pixelsmith.evaluate.upscalers import Upscaler, Weights, load_upscaler
from pixelsmith.families import find_model, read_facts
from pixelsmith.families.autoencoder import tiling_of
from pixelsmith.families.protocol import Tiling
from pixelsmith.generate import plan
from pixelsmith.geometry import Size
from pixelsmith.pixels.codec import tile_grid
from pixelsmith.plan import ModelFacts, base_size, cascade_of, coverage_of
from pixelsmith.request import Compute, Method, Request

Say = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """What an experiment is run with, beside its protocol."""

    model: str
    compute: Compute
    tools: Tools
    weights: Weights


@dataclass(frozen=True)
class Row:
    """A variant at a size: its pictures, its numbers, and how much those differ from the reference's (paired)."""

    variant: str
    size: Size
    made: Sequence[Made]
    values: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]

    @property
    def seconds(self) -> float:
        """For a picture, in the middle of all of them."""
        return float(np.median([made.seconds for made in self.made]))

    @property
    def peak_bytes(self) -> int:
        return max(made.peak_bytes for made in self.made)


@dataclass(frozen=True)
class Outcome:
    """All that an experiment found. ``better``: for each metric, which way is good; ``left_out``: what, and why."""

    protocol: Protocol
    rows: Sequence[Row]
    better: Mapping[str, str]
    left_out: Mapping[str, str]
    versions: Mapping[str, str]


def run(protocol: Protocol, output: Path, setting: Setting, say: Say = print) -> Outcome:
    """Make what is missing of the pictures (``output/pictures``) and take the metrics of all.

    Raises ``InputError`` before any long work where a variant, the model, or what metrics need cannot be used.
    """
    facts = read_facts(find_model(setting.model, weights=False), setting.model)
    cases = list(protocol.cases(setting.model, facts.native_size))
    metrics, left_out = _metrics(protocol, setting.tools)
    upscalers, without = _upscalers(protocol, setting.weights)
    variants = [variant for variant in protocol.variants if variant.name not in without]
    for variant in variants:
        # Prompts and seeds can all be planned where one can.
        for case in {case.size: case for case in cases}.values():
            plan(request_of(variant, case, setting.model, setting.compute))
    try:
        pictures = Pictures(output / "pictures", request_of(variants[0], cases[0], setting.model, setting.compute))
    except OSError as error:
        raise PictureError(f"{output}: pictures cannot be kept there ({error.strerror})") from error
    lab = _Lab(facts, _tiling(setting.model), setting, pictures, upscalers, metrics)
    rows = list(_rows(protocol, variants, cases, lab, say))
    return Outcome(
        protocol,
        rows,
        {name: metric.better for name, metric in metrics.items()},
        {**protocol.left_out, **left_out, **without},
        pictures.versions,
    )


def _metrics(protocol: Protocol, tools: Tools) -> tuple[dict[str, Metric], dict[str, str]]:
    """Those that can be taken, and why the others cannot."""
    found, missing = {}, {}
    for name in protocol.metrics:
        try:
            found[name] = load_metric(name, tools)
        except UnavailableError as reason:
            missing[name] = str(reason)
    return found, missing


def _upscalers(protocol: Protocol, weights: Weights) -> tuple[dict[str, Upscaler], dict[str, str]]:
    """Those of the variants, by the variant's name, and why others cannot be had."""
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


def _tiling(model: str) -> Tiling:
    config = find_model(model) / "vae" / "config.json"
    return tiling_of(json.loads(config.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class _Lab:
    """What makes pictures and looks at them."""

    facts: ModelFacts
    tiling: Tiling
    setting: Setting
    pictures: Pictures
    upscalers: Mapping[str, Upscaler]
    metrics: Mapping[str, Metric]

    def made(self, variant: Variant, case: Case) -> Made:
        request = self._request(variant, case)
        if variant.name in self.upscalers:
            name = f"{variant.upscaler} {self.setting.weights}"
            return self.pictures.enlarged(request, self.facts.native_size, name, self.upscalers[variant.name])
        return self.pictures.made(request)

    def kept(self, variant: Variant, case: Case, made: Made) -> dict[str, Kept]:
        """What each metric keeps of a picture."""
        request = self._request(variant, case)
        shot = Shot(
            prompt=case.prompt,
            picture=made.read(),
            base=self.pictures.base(request, self.facts.native_size),
            borders=borders_of(request, self.facts, self.tiling),
            spacing=min(self.facts.native_size.width, self.facts.native_size.height),
            seed=case.seed,
        )
        return {name: metric.describe(shot) for name, metric in self.metrics.items()}

    def _request(self, variant: Variant, case: Case) -> Request:
        return request_of(variant, case, self.setting.model, self.setting.compute)


def borders_of(request: Request, facts: ModelFacts, tiling: Tiling) -> Borders:
    """Where the patches of the last step and the decoder's tiles meet in the picture of a request.

    A picture that has no patches is looked at where those of the default method would meet: what it shows there is
    what a picture without seams has.
    """
    base = base_size(request.size, facts.native_size)
    if not cascade_of(request, base, None):
        request = Request(request.prompt, request.size, seed=request.seed, model=request.model, method=Method())
    stages = len(cascade_of(request, base, None))
    canvas = facts.latent_size(request.size)
    last = request.method.at(stages, facts.recommended).steps - 1
    patches = coverage_of(stages, canvas, request, facts).patches(last)
    scale = facts.latent_scale
    return Borders.of([patches, tile_grid(canvas, tiling)], request.size.padded(scale).divided(scale), scale)


def _rows(protocol: Protocol, variants: Sequence[Variant], cases: Sequence[Case], lab: _Lab, say: Say) -> Iterator[Row]:
    """Size by size, the reference first: then there is something to compare with."""
    ordered = sorted(variants, key=lambda variant: variant.name != protocol.reference)
    for size, group in groupby(cases, key=lambda case: case.size):
        of_size, found = list(group), {}
        reference: _Numbers | None = None
        for variant in ordered:
            made = []
            for i, case in enumerate(of_size, start=1):
                made.append(lab.made(variant, case))
                say(f"{variant.name} {size}: picture {i} of {len(of_size)}, {made[-1].seconds:.1f} s")
            kept = [lab.kept(variant, case, picture) for case, picture in zip(of_size, made, strict=True)]
            numbers = _Numbers.of(kept, lab.metrics, protocol.resamples)
            reference = reference or numbers
            found[variant.name] = Row(variant.name, size, made, numbers.estimates, numbers.differences_from(reference))
        yield from (found[variant.name] for variant in variants)


@dataclass(frozen=True)
class _Numbers:
    """Each metric's number of a variant, and what it is in the resamples."""

    values: Mapping[str, float]
    replicated: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of(cls, kept: Sequence[Mapping[str, Kept]], metrics: Mapping[str, Metric], resamples: int) -> _Numbers:
        drawn = draws(len(kept), resamples)
        values, replicated = {}, {}
        for name, metric in metrics.items():
            mine = [picture[name] for picture in kept]
            values[name], replicated[name] = _valued(metric, mine), replicates(metric.value, mine, drawn)
        return cls(values, replicated)

    @property
    def estimates(self) -> dict[str, Estimate]:
        return {name: estimate(value, self.replicated[name]) for name, value in self.values.items()}

    def differences_from(self, other: _Numbers) -> dict[str, Estimate]:
        return {
            name: difference(value, other.values[name], self.replicated[name], other.replicated[name])
            for name, value in self.values.items()
        }


def _valued(metric: Metric, kept: Sequence[Kept]) -> float:
    value = metric.value(kept)
    return value if math.isfinite(value) else float("nan")
