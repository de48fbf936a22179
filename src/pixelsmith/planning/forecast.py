"""Estimates of a run's time, from the work in its plan and the rates measured last on this machine."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from pixelsmith.config.compute import Compute
from pixelsmith.config.parts import Parts
from pixelsmith.config.plans import Plan, StagePlan
from pixelsmith.config.recommended import StageMethod
from pixelsmith.events import Event, PhaseFinished, Progress
from pixelsmith.system.remembered import Remembered

Key = tuple[int, str]
"""A stage (the base is 0) and a phase."""
MethodAt = Callable[[int], StageMethod]
"""Returns the settings of the method for a stage."""
_RATES = Remembered("rates.json")
_ALONE = "alone"
"""The key for denoising a base, one patch at a time, whose rate says little about full batches."""


@dataclass(frozen=True)
class Rates:
    """Seconds per evaluation of the network (``denoise``), per caption, per tile of the upsampler (``upsample``), and
    per megapixel of each other phase.

    The defaults, which are used until a phase is measured, were measured with the embedded model on two cores; that of
    the upsampler with a network of 1.2 million weights on one.
    """

    encode: float = 0.9
    double: float = 0.15
    denoise: float = 0.035
    decode: float = 1.4
    write: float = 0.06
    caption: float = 0.02
    control: float = 0.9
    upsample: float = 3.9

    def of(self, phase: str) -> float:
        """The rate of a phase by its name."""
        return float(getattr(self, phase))


def work_of(plan: Plan, method_at: MethodAt) -> dict[Key, float]:
    """The work of each phase: captions, tiles of the upsampler, evaluations of the network for denoising, megapixels
    for other phases.
    """
    rungs: dict[int, StagePlan] = {} if plan.base is None else {0: plan.base}
    rungs |= enumerate(plan.stages, start=1)
    work: dict[Key, float] = {}
    for stage, rung in rungs.items():
        if stage and method_at(stage).captions == "auto":
            work[stage, "caption"] = rung.fewest_patches_per_step
        if rung.upsampled_tiles:
            work[stage, "upsample"] = sum(rung.upsampled_tiles)
        if stage:
            work[stage, "encode"] = rung.size.area / 1e6 / 4**rung.doublings
        if rung.doublings:
            work[stage, "double"] = rung.size.area / 1e6
        if plan.encoded_controls:
            work[stage, "control"] = plan.encoded_controls * rung.size.area / 1e6
        calls = method_at(stage).calls(prompts=rung.prompts, negatives=rung.negatives)
        work[stage, "denoise"] = rung.patches_per_step * calls
        work[stage, "decode"] = rung.size.area / 1e6
    work[max(rungs), "write"] = rungs[max(rungs)].size.area / 1e6
    return work


def seconds_of(plan: Plan, method_at: MethodAt, rates: Rates) -> float:
    """The time in seconds that a run of this plan takes at these rates."""
    return sum(units * rates.of(phase) for (_, phase), units in work_of(plan, method_at).items())


class Forecast:
    """An observer that estimates how much of a run is done and how long the rest takes.

    It starts from the ``rates`` of the last run, or from a guess if there are none, and measures the rates of this run.
    """

    def __init__(
        self, plan: Plan, method_at: MethodAt, rates: Rates | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._method_at, self._clock = method_at, clock
        self._last, self._work = rates, work_of(plan, method_at)
        # Control pictures and the passes of an upsampler follow one another, each in a phase of the same name.
        tiles = {(stage, "upsample"): rung.upsampled_tiles for stage, rung in enumerate(plan.stages, start=1)}
        self._parts: dict[Key, Sequence[int]] = {key: tiles[key] for key in self._work if key[1] == "upsample"}
        self._parts |= {key: (1,) * plan.encoded_controls for key in self._work if key[1] == "control"}
        self._ended = Counter[Key]()
        self._done: dict[Key, float] = {}
        self._seconds: dict[str, float] = defaultdict(float)
        self._units: dict[str, float] = defaultdict(float)
        self._last_time = clock()

    def __call__(self, event: Event) -> None:
        """Record what was done, and how long it took."""
        now = self._clock()
        if isinstance(event, Progress):
            if (event.stage, event.phase) not in self._work:
                return
            keys = self._reported((event.stage, event.phase))
            done = {key: self._work[key] * self._share_of(event) for key in keys}
            # In a resumed run, the first event of a phase includes work that an earlier process has done.
            if keys[0] in self._done or (event.total == 1 and event.steps == 1):
                self._measure({key: done[key] - self._done.get(key, 0.0) for key in keys}, now - self._last_time)
            self._done |= done
        elif isinstance(event, PhaseFinished):
            key = (event.stage, event.phase)
            keys = self._reported(key)
            self._ended[key] += 1
            self._done |= {each: self._work.get(each, 0.0) * self._share_ended(key) for each in keys}
            if event.phase == "write":
                # There is one such phase, so its start and end are included.
                self._units["write"], self._seconds["write"] = self._done[key], event.seconds
        self._last_time = now

    @property
    def rates(self) -> Rates:
        """The rates of this run; for phases that have not begun, those of the last run or a guess."""
        measured = {phase: self._seconds[phase] / units for phase, units in self._units.items() if units > 0}
        alone = measured.pop(_ALONE, None)
        return replace(self._last or _guessed(measured, alone), **measured)

    @property
    def known(self) -> bool:
        """Whether the rates are measured, not guessed."""
        return self._last is not None or self._units["denoise"] > 0

    @property
    def share(self) -> float:
        """The share of the run's time that has passed, 0..1."""
        left, rates = self.seconds_left, self.rates
        in_all = sum(units * rates.of(phase) for (_, phase), units in self._work.items())
        return 1 - left / in_all if in_all else 1.0

    @property
    def seconds_left(self) -> float:
        """The time in seconds that the rest of the run takes."""
        rates, reached = self.rates, max(self._done, default=(0, ""), key=_order)
        left = {key: units - self._done.get(key, 0.0) for key, units in self._work.items()}
        # Phases before the furthest one of which there was no event were done by an earlier process.
        return sum(
            units * rates.of(key[1])
            for key, units in left.items()
            if key in self._done or _order(key) > _order(reached)
        )

    def _reported(self, key: Key) -> list[Key]:
        """The phases of which events of a phase tell: where one process upsamples while it encodes, both."""
        above = (key[0], "upsample")
        return [key, above] if key[1] == "encode" and above in self._work and not self._ended[above] else [key]

    def _measure(self, units: Mapping[Key, float], seconds: float) -> None:
        """Divide a time between phases in proportion to what they took so far."""
        if len(units) == 1:
            shares = dict.fromkeys(units, 1.0)
        else:
            rates = self.rates
            costs = {key: amount * rates.of(key[1]) for key, amount in units.items()}
            in_all = sum(costs.values())
            shares = {key: cost / in_all if in_all else 0.0 for key, cost in costs.items()}
        for key, amount in units.items():
            self._measured(key, amount, seconds * shares[key])

    def _measured(self, key: Key, units: float, seconds: float) -> None:
        stage, phase = key
        if stage == 0 and any(other > 0 for other, _ in self._work):
            if phase != "denoise":
                # Most of the time of a single small tile is overhead.
                return
            phase = _ALONE
        self._units[phase] += units
        self._seconds[phase] += seconds

    def _share_of(self, event: Progress) -> float:
        if event.phase != "denoise":
            return self._share_ended((event.stage, event.phase), event.done / event.total)
        method = self._method_at(event.stage)
        before, after = method.calls(event.step - 1), method.calls(event.step)
        return (before + (after - before) * event.done / event.total) / method.calls()

    def _share_ended(self, key: Key, of_next: float = 0.0) -> float:
        """The share of a phase that is done: its parts that have ended, and a share of the next one."""
        parts, ended = self._parts.get(key, (1,)), self._ended[key]
        return min(1.0, (sum(parts[:ended]) + of_next * sum(parts[ended : ended + 1])) / sum(parts))


def _guessed(measured: Mapping[str, float], alone: float | None) -> Rates:
    """Guessed rates: the network as measured with one patch; encoding and decoding as many times slower than the
    defaults as the one that was measured.
    """
    plain = Rates()
    guess = plain if alone is None else replace(plain, denoise=alone)
    of_pixels = ("decode", "control", "double", "encode")
    for one in of_pixels:
        if one in measured:
            ratio = measured[one] / plain.of(one)
            guess = replace(guess, **{other: plain.of(other) * ratio for other in (*of_pixels, "upsample")})
    return guess


def rated_as(model: str, parts: Parts, compute: Compute) -> str:
    """The name under which rates of a model are saved: its own, and what else changes what its calls cost."""
    others = {
        "vae": parts.vae,
        "network": parts.network,
        "quantize": parts.quantize,
        "controlnets": sum(net.conditioning_scale > 0 for net in parts.controlnets),
        "ip-adapters": sum(adapter.scale > 0 for adapter in parts.ip_adapters),
        "upsampler": parts.upsampler,
        "memory": compute.memory if compute.memory in ("offload", "sequential") else None,
        "compile": compute.compile,
        "attention": compute.attention,
    }
    return " ".join([model, *(f"{name}={value}" for name, value in others.items() if value)])


def load_rates(model: str, device: str, dtype: str) -> Rates | None:
    """The rates of the last run or calibration of this model on this machine, or ``None``."""
    try:
        rates = Rates(**_RATES.get(_name(model, device, dtype)))
        return rates if all(isinstance(rate, float) and rate > 0 for rate in asdict(rates).values()) else None
    except TypeError:
        return None


def save_rates(rates: Rates, model: str, device: str, dtype: str) -> None:
    """Save rates for the next plan; errors of writing are ignored."""
    _RATES.put(_name(model, device, dtype), asdict(rates))


def _name(model: str, device: str, dtype: str) -> str:
    return f"{model} {device} {dtype}"


def _order(key: Key) -> tuple[int, int]:
    stage, phase = key
    phases = ("", "caption", "upsample", "encode", "double", "control", "denoise", "decode", "write")
    return stage, phases.index(phase)
