"""The list of supported families, and facts of a model, without loading weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from pixelsmith.config.parts import Parts
from pixelsmith.config.recommended import PERTURBATIONS
from pixelsmith.families import check_complete, find_model, read_facts
from pixelsmith.families.loading.find import config_folder, few_steps_of
from pixelsmith.families.loading.sources import sources_of
from pixelsmith.families.registry import architecture_of, architectures


def list_families() -> list[dict[str, Any]]:
    """Name, pipeline classes, native sizes and needs of every family, as plain values."""
    return [
        {"name": one.name, "pipelines": list(one.pipelines), "native": one.native, "needs": one.needs}
        for one in architectures()
    ]


def inspect_model(model: str, parts: Parts) -> dict[str, Any]:
    """The family of a model, its recommended settings, and the sources of its parts, as plain values.

    Raises ``ModelError``.
    """
    place = find_model(model, False, parts)
    check_complete(place, parts)
    facts, sources = read_facts(place, model, parts), sources_of(place, parts)
    return {
        "model": model,
        "family": architecture_of(facts.pipeline, model).name,
        "pipeline": facts.pipeline,
        "native_size": str(facts.native_size),
        "latent_scale": facts.latent_scale,
        "latent_channels": facts.latent_channels,
        "parameters": facts.parameters,
        "quantised": facts.quantised_bytes > 0,
        "safety_checker": sources.get("safety_checker") is not None,
        "perturbations": list(PERTURBATIONS) if facts.perturbable else [],
        "few_steps": bool(few_steps_of(config_folder(place, parts), replace(parts, few_steps=None))),
        **asdict(facts.recommended),
        "parts": {name: None if source is None else str(source) for name, source in sources.items()},
    }
