"""The inputs of a stage, and what is reported while they are computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from pixelsmith import Compute, Event, PhaseFinished, Progress, Request, Size
from pixelsmith.canvas import Array, MemorySpace
from pixelsmith.engine.inputs import StageInputs
from pixelsmith.engine.prompts import PromptEncoder
from pixelsmith.families import load_family, read_facts
from pixelsmith.pixels.resample import Resized


@torch.inference_mode()
def test_control_pictures_that_are_encoded_are_one_phase_of_a_stage(tiny_model: Path) -> None:
    """Its progress counts the tiles of all pictures, as the forecast of the time left expects."""
    request = Request("a map", Size(96, 96), model=str(tiny_model), compute=Compute("cpu", "float32"))
    facts = read_facts(tiny_model, request.model)
    loaded = load_family(tiny_model, facts, request.compute)
    # Of the class that loads it; ControlNets for latents differ in what they are given only.
    family = replace(loaded, facts=replace(facts, control_latents=True))  # type: ignore[type-var]
    pictures = [Array(torch.full((3, 96, 96), grey, dtype=torch.uint8)) for grey in (50, 200)]
    events: list[Event] = []
    inputs = StageInputs(
        request,
        family,
        {1: request.method.at(1, facts.recommended)},
        PromptEncoder.of(request, family),
        ({}, {}),
        events.append,
        MemorySpace(),
        controls={1: [Resized(picture, picture.size, request.size, "lanczos") for picture in pictures]},
    )
    dark, light = inputs._control(1, request.size)
    assert dark.size == light.size == facts.latent_size(request.size)
    assert not torch.equal(dark.read(dark.size.window), light.read(light.size.window))
    *progress, end = events
    assert isinstance(end, PhaseFinished)
    assert (end.stage, end.phase) == (1, "control")
    found = [event for event in progress if isinstance(event, Progress)]
    assert len(found) == len(progress)
    assert {(event.phase, event.step, event.steps) for event in found} == {("control", 1, 1)}
    assert [event.done for event in found] == list(range(1, found[-1].total + 1))
