"""Sending the files of a model to workers that do not have them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pixelsmith.config.parts import Parts
from pixelsmith.config.request import EMBEDDED
from pixelsmith.families import model_files
from pixelsmith.system.digests import digest_of
from pixelsmith.system.places import given_place

SMALL = 16 << 20
"""Files of the model's folder below this size in bytes, such as those of tokenizers, are always sent."""


@dataclass(frozen=True)
class ModelFiles:
    """A model on this disk: its name, its folder or file, and its parts."""

    name: str
    place: Path
    parts: Parts

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all files that affect the model's output."""
        return digest_of(model_files(self.place, self.parts))

    @cached_property
    def packed(self) -> bytes:
        """The serialised files, by the names of the model and its parts in a request."""
        needed = {path.resolve() for path in model_files(self.place, self.parts)}
        found: dict[str, tuple[str, dict[str, bytes]]] = {}
        for name, place in self._places().items():
            paths = [place] if place.is_file() else [path for path in sorted(place.rglob("*")) if path.is_file()]
            root = place.parent if place.is_file() else place
            taken = [path for path in paths if path.resolve() in needed or path.stat().st_size < SMALL]
            found[name] = place.name, {path.relative_to(root).as_posix(): path.read_bytes() for path in taken}
        return pickle.dumps(found, protocol=5)

    @property
    def spelled(self) -> str:
        """The name for workers: an absolute path for local files, because a worker's working directory differs."""
        place = given_place(self.name)
        return str(place.absolute()) if self.name != EMBEDDED and place.exists() else self.name

    def _places(self) -> dict[str, Path]:
        parts = self.parts
        names = [
            parts.config,
            parts.vae,
            parts.network,
            *(lora.path for lora in parts.loras),
            *parts.textual_inversions,
            *(net.path for net in parts.controlnets),
            *(one.path for one in parts.ip_adapters),
            parts.image_encoder,
            parts.upsampler,
        ]
        places = {name: given_place(name) for name in names if name is not None}
        return {self.spelled: self.place} | {name: place for name, place in places.items() if place.exists()}


def unpack_into(folder: Path, packed: bytes) -> dict[str, str]:
    """Write the files of ``ModelFiles.packed`` into a folder. Returns the new path for each name."""
    places: dict[str, str] = {}
    for i, (name, (base, files)) in enumerate(pickle.loads(packed).items()):  # noqa: S301 (of the run that this works for)
        root = folder / str(i)
        single = set(files) == {base}
        for relative, data in files.items():
            path = root / relative if single else root / base / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        places[name] = str(root / base)
    return places


def renamed(parts: Parts, places: Mapping[str, str]) -> Parts:
    """The parts with their files' new paths."""

    def at(name: str | None) -> str | None:
        return None if name is None else places.get(name, name)

    return replace(
        parts,
        config=at(parts.config),
        vae=at(parts.vae),
        network=at(parts.network),
        loras=tuple(replace(lora, path=places.get(lora.path, lora.path)) for lora in parts.loras),
        textual_inversions=tuple(places.get(name, name) for name in parts.textual_inversions),
        controlnets=tuple(replace(net, path=places.get(net.path, net.path)) for net in parts.controlnets),
        ip_adapters=tuple(replace(one, path=places.get(one.path, one.path)) for one in parts.ip_adapters),
        image_encoder=at(parts.image_encoder),
        upsampler=at(parts.upsampler),
    )
