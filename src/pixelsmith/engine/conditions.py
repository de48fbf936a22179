"""What the places of a canvas are conditioned on: the picture's prompts, and those of its regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pixelsmith.families import PromptAt
from pixelsmith.sampling.denoiser import Denoiser
from pixelsmith.sampling.regional import Blended, Layers, owners_of


@dataclass(frozen=True)
class Conditions:
    """A prompt and a negative prompt for each layer of a canvas, the picture's own first.

    ``texts``: both as they were asked for: layers of the same text share an estimate. ``prompts``, ``negatives``: what
    the network is given for them. ``layers``: ``None`` where there is but one.
    """

    texts: Sequence[tuple[str, str]]
    prompts: Sequence[PromptAt]
    negatives: Sequence[PromptAt]
    layers: Layers | None = None

    def extended(self, extend: Callable[[PromptAt], PromptAt]) -> Conditions:
        """The same with tensors added to each prompt and each negative prompt."""
        return replace(self, prompts=[*map(extend, self.prompts)], negatives=[*map(extend, self.negatives)])

    def positive(self, made: Callable[[PromptAt], Denoiser]) -> Denoiser:
        """The denoisers that ``made`` makes of the prompts, blended."""
        return self._blended([text for text, _ in self.texts], self.prompts, made)

    def negative(self, made: Callable[[PromptAt], Denoiser]) -> Denoiser:
        """The same of the negative prompts."""
        return self._blended([text for _, text in self.texts], self.negatives, made)

    def _blended(
        self, texts: Sequence[str], prompts: Sequence[PromptAt], made: Callable[[PromptAt], Denoiser]
    ) -> Denoiser:
        owners = owners_of(texts)
        denoisers = [made(prompts[owners.index(number)]) for number in range(max(owners) + 1)]
        if self.layers is None or len(denoisers) == 1:
            return denoisers[0]
        return Blended(denoisers, self.layers, owners)
