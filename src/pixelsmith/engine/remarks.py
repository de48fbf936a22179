"""Warnings about settings of a request that have no effect, before any work."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pixelsmith.config.method import Method
from pixelsmith.config.recommended import Recommended, StageMethod
from pixelsmith.config.request import Request
from pixelsmith.config.strategies import STRATEGIES
from pixelsmith.families import Family
from pixelsmith.sampling.merging import MERGES


def remarks_on(request: Request, family: Family, methods: Collection[StageMethod], doublings: int) -> Iterator[str]:
    """Warnings about settings that have no effect, or not the intended one.

    ``doublings``: how often latents are doubled in all stages.
    """
    best, guides = family.facts.recommended, any(method.guides for method in methods)
    strongest = max(method.guidance_scale for method in methods)
    if (best.guidance_told or best.guidance_scale <= 1) and strongest > 2 * best.guidance_scale:
        yield f"the model is distilled for a guidance scale of {best.guidance_scale}; {strongest} may spoil the picture"
    yield from _needless(request, best)
    if request.method.texture not in (None, 0, best.texture) and family.texture is None:
        yield "the model has no texture network: texture is not used"
    if request.method.upsampling == "learned" and not doublings:
        yield "upsampling: no stage has a size at which latents can be doubled; pixels are enlarged by lanczos"
    texts = request.texts(max(1, len(methods) - 1))
    if any(negative for _, negative in texts) and not guides:
        yield "the negative prompt is not used: there is no classifier-free guidance"
    if request.method.guidance not in (None, best.guidance) and not guides:
        yield f"guidance {request.method.guidance} is not used: there is no classifier-free guidance"
    if request.method.perturbation and not any(method.perturbs for method in methods):
        yield "the perturbation is not used: none of the steps lies in its interval, or its scale is 0"
    if request.prompt_weighting:
        # Weighted prompts have no token limit.
        return
    for prompt in dict.fromkeys(text for own, negative in texts for text in (own, negative if guides else "")):
        if unread := family.unread(prompt):
            yield f"the model has no room for the end of the prompt: {unread!r} is not read"


def _needless(request: Request, best: Recommended) -> Iterator[str]:
    """Warnings about settings that the strategy or the merge ignores."""
    asked, strategy = request.method, STRATEGIES[request.method.strategy]
    plain = Method(merge=asked.merge, strategy=asked.strategy)
    plain = (plain.above_given_picture() if request.from_image else plain).settled(best)
    needless = {f"strategy: {asked.strategy}": strategy.unused}
    if "merge" not in strategy.unused:
        needless[f"merge: {asked.merge}"] = MERGES[asked.merge].unused
    for what, names in needless.items():
        if unused := [name for name in names if getattr(asked, name) != getattr(plain, name)]:
            yield f"{what} has no use for {', '.join(unused).replace('_', ' ')}"
