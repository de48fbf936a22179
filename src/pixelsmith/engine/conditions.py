"""The conditions of patches: the picture's prompts, those of its regions, and the guidance between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pixelsmith.config.recommended import Perturbation, StageMethod
from pixelsmith.families import Family, PromptAt
from pixelsmith.geometry import Size
from pixelsmith.sampling.denoiser import Denoiser
from pixelsmith.sampling.guidance import Away, EpsilonScaled, Guided
from pixelsmith.sampling.guidances import GUIDANCES
from pixelsmith.sampling.regional import Blended, Layers, owners_of


@dataclass(frozen=True)
class Conditions:
    """A prompt and a negative prompt for each layer of a canvas, the picture's own first.

    ``texts``: both prompts as text; layers with the same text share an estimate. ``prompts``, ``negatives``: the
    encoded prompts for each patch. ``layers``: ``None`` if there is only one.
    """

    texts: Sequence[tuple[str, str]]
    prompts: Sequence[PromptAt]
    negatives: Sequence[PromptAt]
    layers: Layers | None = None

    def extended(self, extend: Callable[[PromptAt], PromptAt]) -> Conditions:
        """The same with tensors added to each prompt and each negative prompt."""
        return replace(self, prompts=[*map(extend, self.prompts)], negatives=[*map(extend, self.negatives)])

    def positive(self, made: Callable[[PromptAt], Denoiser]) -> Denoiser:
        """The blended denoisers that ``made`` creates for the prompts."""
        return self._blended([text for text, _ in self.texts], self.prompts, made)

    def negative(self, made: Callable[[PromptAt], Denoiser]) -> Denoiser:
        """The same for the negative prompts."""
        return self._blended([text for _, text in self.texts], self.negatives, made)

    def _blended(
        self, texts: Sequence[str], prompts: Sequence[PromptAt], made: Callable[[PromptAt], Denoiser]
    ) -> Denoiser:
        owners = owners_of(texts)
        denoisers = [made(prompts[owners.index(number)]) for number in range(max(owners) + 1)]
        if self.layers is None or len(denoisers) == 1:
            return denoisers[0]
        return Blended(denoisers, self.layers, owners)


def guided_denoiser(family: Family, conditions: Conditions, method: StageMethod, picture: Size) -> Denoiser:
    """The denoiser of each patch's prompts, with its guidances if they are on at any step."""
    scale, aways = method.guidance_scale, []

    def made(prompt_at: PromptAt, perturbation: Perturbation | None = None) -> Denoiser:
        return family.denoiser(prompt_at, picture, scale, perturbation, method.in_stages)

    positive = conditions.positive(made)
    if method.guides:
        unwanted = conditions.negative(made)
        aways.append(Away(unwanted, scale, method.guides_at, GUIDANCES[method.guidance].combine))
    if method.perturbation:
        worse = conditions.positive(partial(made, perturbation=method.perturbation))
        # In n + s·(p − n), the guidance added to p is s − 1 times the difference.
        aways.append(Away(worse, 1 + method.perturbation.scale, method.perturbs_at))
    guided = Guided(positive, aways, method.guidance_rescale) if aways else positive
    return guided if method.epsilon_scaling == 1 else EpsilonScaled(guided, method.epsilon_scaling)
