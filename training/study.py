"""The data of all measurements: the model, the judge, real held-out pictures, and generated ones, each made once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelsmith import Compute, Method, Parts
from pixelsmith.config.compute import DtypeName
from pixelsmith.evaluate.features import load_judge
from pixelsmith.evaluate.judge import Judge
from pixelsmith.evaluate.pictures import code_digest
from pixelsmith.families import Family, find_model, load_family, model_files, read_facts
from pixelsmith.families.loading.find import with_few_steps
from pixelsmith.system.digests import sha256_of
from training import sampling
from training.data import Record, load_pixels, load_records
from training.distill import STUDENT
from training.judge import Verdict, judged
from training.sampling import Shot, pictures

CHUNK = 8
"""The number of pictures in a batch, and in a file."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """``pixels`` (n, H, W, 3) and the seconds per picture."""

    pixels: NDArray[np.uint8]
    seconds: float


@dataclass(frozen=True)
class Study:
    """The measured model and its pictures.

    - ``model``: as for ``--model``; ``judge_folder``: of the judge.
    - ``work``: the folder of training pictures; ``output``: the folder of generated pictures and results.
    - ``count``: the number of pictures in the large comparisons.
    """

    model: str
    judge_folder: Path
    work: Path
    output: Path
    count: int
    dtype: DtypeName = "auto"

    def load(self, parts: Parts | None = None, compute: Compute | None = None) -> Family:
        """The model, which stays loaded until another one is needed."""
        return _load(self.model, parts or Parts(), compute or Compute(dtype=self.dtype))

    @cached_property
    def judge(self) -> Judge:
        return load_judge(self.judge_folder)

    @cached_property
    def folder(self) -> Path:
        """The model's folder."""
        return find_model(self.model)

    @cached_property
    def has_few_steps(self) -> bool:
        """Whether the model has a few-step variant."""
        few, usual = (model_files(self.folder, Parts(few_steps=given)) for given in (None, False))
        return few != usual

    @cached_property
    def identity(self) -> str:
        """A hash of the model with all its variants, of the judge, of the code, and of the number of pictures."""
        files = [*model_files(self.folder, Parts(few_steps=None)), self.judge_folder]
        code = [code_digest(), code_digest(Path(__file__).parent)]
        return _hash([*(sha256_of(file) for file in files), *code, self.count, self.dtype])

    @cached_property
    def held_out(self) -> list[tuple[int, Record]]:
        """The index and record of each held-out picture, in a shuffled order."""
        found = [(i, record) for i, record in enumerate(load_records(self.work)) if record.held_out]
        return [found[i] for i in np.random.default_rng(0).permutation(len(found))]

    @cached_property
    def captions(self) -> list[str]:
        """The captions of ``base``: those of the held-out pictures, repeated in order."""
        return [self.held_out[i % len(self.held_out)][1].caption for i in range(self.count)]

    @cached_property
    def real(self) -> NDArray[np.uint8]:
        """The held-out pictures."""
        pixels = load_pixels(self.work)
        return np.stack([pixels[i] for i, _ in self.held_out])

    @cached_property
    def base(self) -> Pictures:
        """Pictures of every caption, with the recommended settings."""
        return self.made([Shot(caption, seed) for seed, caption in enumerate(self.captions)])

    @cached_property
    def few(self) -> Pictures:
        """The same with the few-step LoRA and the steps that it was trained for."""
        shots = [Shot(caption, seed) for seed, caption in enumerate(self.captions)]
        few = with_few_steps(self.folder, Parts(few_steps=True))
        # A base has no LoRAs of the stages alone.
        loras = tuple(replace(lora, stages_only=False) for lora in few.loras)
        return self.made(shots, Method(**STUDENT), replace(few, loras=loras))

    @cached_property
    def real_verdict(self) -> Verdict:
        return judged(self.judge, self.real)

    @cached_property
    def base_verdict(self) -> Verdict:
        return judged(self.judge, self.base.pixels)

    def made(self, shots: Sequence[Shot], method: Method | None = None, parts: Parts | None = None) -> Pictures:
        """A picture for each shot; existing ones are read."""
        parts = parts or Parts()
        recommended = read_facts(self.folder, self.model, parts).recommended
        settled = (method or Method()).at(0, recommended)
        files = [sha256_of(file) for file in model_files(self.folder, parts)]
        made_by = [code_digest(), sha256_of(Path(sampling.__file__))]
        folder = self.output / "pictures" / _hash([files, made_by, asdict(settled), self.dtype])
        folder.mkdir(parents=True, exist_ok=True)
        pixels, seconds = [], 0.0
        for start in range(0, len(shots), CHUNK):
            chosen = shots[start : start + CHUNK]
            file = folder / f"{_hash([asdict(shot) for shot in chosen])}.npz"
            if not file.exists():
                family, began = self.load(parts), time.perf_counter()
                found = pictures(family, chosen, settled)
                save_arrays(file, pixels=found, seconds=time.perf_counter() - began)
                print(f"{start + len(chosen)} of {len(shots)} pictures", flush=True)
            with np.load(file) as kept:
                pixels.append(kept["pixels"])
                seconds += float(kept["seconds"])
        return Pictures(np.concatenate(pixels), seconds / len(shots))


def save_arrays(file: Path, **arrays: object) -> None:
    """Write arrays to a file atomically."""
    with file.with_suffix(".tmp").open("wb") as opened:
        np.savez(opened, **arrays)  # type: ignore[arg-type]
    file.with_suffix(".tmp").rename(file)


@lru_cache(maxsize=1)
def _load(model: str, parts: Parts, compute: Compute) -> Family:
    place = find_model(model)
    return load_family(place, read_facts(place, model, parts), compute, parts)


def _hash(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
