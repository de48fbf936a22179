"""Captioners, which describe parts of a picture: models of transformers, loaded from folders in its format."""

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
"""The least probability of a class that is used as a caption."""
MOST_TOKENS = 30
"""The largest number of tokens of a caption; many text encoders read 77, which the prompt needs too."""
_SIDE = 64
"""The side in pixels of the picture with which a captioner is tested."""
_CLASSIFIER, _WEIGHTS = "ForImageClassification", re.compile(r"[()+]|-(?!\w)")
"""The suffix of classifiers' class names, and the marks of weights in prompts."""

Pictures = UInt8[Tensor, "b 3 H W"]


@runtime_checkable
class Captioner(Protocol):
    """Describes pictures."""

    def __call__(self, pictures: Pictures) -> list[str]:
        """A caption for each picture (b, 3, H, W); an empty text if there is none."""
        ...


class ClassCaptioner:
    """A classifier whose most probable class is the caption, if its probability is at least ``CERTAIN``."""

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
    """An image-to-text model without a prompt, such as BLIP, GIT or ViT with GPT-2, decoded greedily."""

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
    """Load the captioner of a model, and test it with a grey picture.

    If parts of the model are offloaded, the captioner runs on the CPU. Raises ``ModelError``.
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
        # Models that need more than a picture, and damaged ones, raise various errors.
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
        # Missing weights would be initialised randomly.
        raise ModelError(f"captions: {place} lacks {len(missing)} weights, such as {missing[0]}")
    processor = transformers.AutoImageProcessor.from_pretrained(place, local_files_only=True)
    model = model.to(device).eval()
    if name.endswith(_CLASSIFIER):
        return ClassCaptioner(model, processor)
    return TextCaptioner(model, processor, transformers.AutoTokenizer.from_pretrained(place, local_files_only=True))


def _seen(processor: Any, pictures: Pictures, model: Any) -> Tensor:
    """Pictures, preprocessed for a model."""
    pixels: Tensor = processor(images=list(pictures.permute(0, 2, 3, 1).numpy()), return_tensors="pt").pixel_values
    return pixels.to(model.device, model.dtype)


def _plain(text: str) -> str:
    """The text in one line, without characters that mark weights in prompts."""
    return " ".join("".join(c for c in _WEIGHTS.sub(" ", text) if c.isprintable() or c.isspace()).split())
