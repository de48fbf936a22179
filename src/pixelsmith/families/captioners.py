"""Captioners: what a place of a picture shows, in words. Classes of transformers, read from folders in its format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from pixelsmith.config.compute import Compute
from pixelsmith.config.parts import Parts
from pixelsmith.errors import InputError, ModelError, reason_of
from pixelsmith.families.loading.find import captioner_of, config_folder, find_captioner
from pixelsmith.families.loading.loader import choose_device
from pixelsmith.families.loading.model_files import read_json
from pixelsmith.families.loading.quiet import quiet

CERTAIN = 0.5
"""How likely a classifier's class must be to be said."""
MOST_TOKENS = 30
"""Of a caption: text encoders read 77, and the prompt comes first."""
_SIDE = 64
"""Pixels of the picture that a captioner is tried on."""
_CLASSIFIER, _WEIGHTS = "ForImageClassification", re.compile(r"[()+]|-(?!\w)")
"""How classifiers are called; what prompts with weights are marked with."""

Pictures = UInt8[Tensor, "b 3 H W"]


@runtime_checkable
class Captioner(Protocol):
    """Says what pictures show."""

    def __call__(self, pictures: Pictures) -> list[str]:
        """The words for each of these pictures of one size; empty where there is nothing to say."""
        ...


class ClassCaptioner:
    """A classifier whose classes are named in words: the likeliest one, where it is likely enough."""

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor

    @torch.inference_mode()
    def __call__(self, pictures: Pictures) -> list[str]:
        """The name of the class of each picture."""
        logits = self._model(pixel_values=_seen(self._processor, pictures, self._model)).logits
        certainties, found = logits.float().softmax(1).max(1)
        names = self._model.config.id2label
        return [
            _plain(names[i]) if certainty >= CERTAIN else ""
            for i, certainty in zip(found.tolist(), certainties.tolist(), strict=True)
        ]


class TextCaptioner:
    """A model that writes a text from a picture alone: BLIP, GIT, ViT with GPT-2. Its likeliest words, never drawn."""

    def __init__(self, model: Any, processor: Any, tokenizer: Any) -> None:
        self._model, self._processor, self._tokenizer = model, processor, tokenizer

    @torch.inference_mode()
    def __call__(self, pictures: Pictures) -> list[str]:
        """A text for each picture."""
        with quiet():
            tokens = self._model.generate(
                pixel_values=_seen(self._processor, pictures, self._model),
                max_new_tokens=MOST_TOKENS,
                do_sample=False,
                num_beams=1,
            )
            return [_plain(text) for text in self._tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def load_captioner(model: Path, compute: Compute, dtype: torch.dtype, parts: Parts) -> Captioner:
    """The captioner for a model that was found, after it has said something of a grey picture.

    Where the model is not on its device as a whole, it computes on the CPU. Raises ``ModelError``.
    """
    name = captioner_of(config_folder(model, parts), parts)
    if name is None:
        raise ModelError(f"captions: {model} has no captioner of its own")
    place = find_captioner(name, parts.allow_pickle)
    device = choose_device("cpu" if compute.memory in ("offload", "sequential") else compute.device)
    try:
        with quiet():
            captioner = _read(place, device, dtype, None if parts.allow_pickle else True)
            captioner(torch.full((1, 3, _SIDE, _SIDE), 128, dtype=torch.uint8))
            return captioner
    except InputError:
        raise
    except Exception as error:
        # Models that need more than a picture fail in their own ways, and so do damaged ones.
        raise ModelError(f"captions: {place} cannot caption a picture: {reason_of(error)}") from error


def _read(place: Path, device: torch.device, dtype: torch.dtype, safe: bool | None) -> Captioner:
    import transformers

    name = str(next(iter(read_json(place / "config.json").get("architectures") or [None])))
    kind = getattr(transformers, name, None)
    if kind is None or not (name.endswith(_CLASSIFIER) or kind.can_generate()):
        raise ModelError(
            f"captions: {place} holds a {name}; expected an image-to-text model of transformers such as BLIP, GIT or "
            "ViT with GPT-2, or an image classifier"
        )
    model, report = kind.from_pretrained(
        place, dtype=dtype, use_safetensors=safe, local_files_only=True, output_loading_info=True
    )
    if missing := sorted(report["missing_keys"]):
        # They would be random numbers.
        raise ModelError(f"captions: {place} lacks {len(missing)} weights, such as {missing[0]}")
    processor = transformers.AutoImageProcessor.from_pretrained(place, local_files_only=True)
    model = model.to(device).eval()
    if name.endswith(_CLASSIFIER):
        return ClassCaptioner(model, processor)
    return TextCaptioner(model, processor, transformers.AutoTokenizer.from_pretrained(place, local_files_only=True))


def _seen(processor: Any, pictures: Pictures, model: Any) -> Tensor:
    """Pictures as a model sees them."""
    pixels: Tensor = processor(images=list(pictures.permute(0, 2, 3, 1).numpy()), return_tensors="pt").pixel_values
    return pixels.to(model.device, model.dtype)


def _plain(text: str) -> str:
    """One line, without what prompts with weights are marked with."""
    return " ".join("".join(c for c in _WEIGHTS.sub(" ", text) if c.isprintable() or c.isspace()).split())
