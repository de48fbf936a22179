from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith import Compute, Method, Perturbation, Plan, Request, RequestError, Size
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.planning.planner import LIBRARIES, Numbers, make_plan
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.sampling.merging import MERGES

EMBEDDED_LIKE = ModelFacts(
    "m", "StableDiffusionPipeline", Size(256, 256), 8, 8, 4, 1000, TileLayout(88, 13, 0), 10_000_000
)
SDXL_LIKE = ModelFacts(
    "x", "StableDiffusionXLPipeline", Size(1024, 1024), 8, 4, 4, 1000, TileLayout(128, 16, 16), 3_500_000_000
)
HALF = Numbers(2, 2, 1)


def planned(
    width: int, height: int, facts: ModelFacts = EMBEDDED_LIKE, start: Size | None = None, **changes: Any
) -> Plan:
    return make_plan(Request("a map", Size(width, height), **changes), facts, start)


@given(width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_the_last_stage_of_every_plan_has_the_requested_size(width: int, height: int) -> None:
    plan = planned(width, height, method=Method(steps=2))
    assert plan.base is not None
    rungs = [plan.base, *plan.stages]
    assert 0.9 * 256**2 <= plan.base.size.area <= 1.1 * 256**2, "one call must be able to draw the base"
    if plan.stages:
        assert plan.stages[-1].size == Size(width, height)
    else:
        assert Size(width, height).fits_in(plan.base.size)
    for below, above in zip(rungs, plan.stages, strict=False):
        factor = max(above.size.width / below.size.width, above.size.height / below.size.height)
        assert 1 <= factor <= MERGES["hold"].most * 1.1
    for rung in rungs:
        assert rung.latent_size.width % 4 == rung.latent_size.height % 4 == 0
        assert 0 <= rung.latent_size.width * 8 - rung.size.width < 32
        assert rung.patches_per_step >= rung.fewest_patches_per_step


def test_the_base_has_the_native_area_and_the_pictures_aspect_ratio() -> None:
    plan = planned(1536, 1024)
    assert plan.base is not None
    assert plan.base.size == Size(314, 209)
    assert planned(2048, 2048, SDXL_LIKE).base == planned(4096, 4096, SDXL_LIKE).base


@pytest.mark.parametrize(("side", "limit"), [(1024, 1.6), (4096, 1.3), (8192, 1.3)])
def test_patches_per_step_are_close_to_the_fewest(side: int, limit: float) -> None:
    stage = planned(side, side).stages[-1]
    assert stage.fewest_patches_per_step == (side // 256) ** 2
    assert stage.patches_per_step / stage.fewest_patches_per_step <= limit


def test_model_calls_count_every_evaluation() -> None:
    """In the base and the stages: one per patch and step, two with guidance."""
    method = Method(steps=10, guidance_interval=(0.2, 0.5))
    plan = planned(512, 512, method=method, cascade=(Size(512, 512),))
    patches = 1 + plan.stages[0].patches_per_step
    assert plan.model_calls == round(patches * (10 + 3))
    alone = planned(512, 512, method=Method(steps=10, guidance_scale=1))
    assert alone.model_calls == round(patches * 10)


@pytest.mark.parametrize(("guidance_scale", "scale", "calls"), [(7.5, 2.8, 20 + 3), (1, 2.8, 13), (1, 0, 10)])
def test_a_perturbation_adds_one_call_per_patch_within_its_interval(
    guidance_scale: float, scale: float, calls: int
) -> None:
    perturbation = Perturbation("slg", scale, (0.2, 0.5))
    method = Method(steps=10, guidance_scale=guidance_scale, perturbation=perturbation)
    plan = planned(256, 256, replace(EMBEDDED_LIKE, perturbable=True), method=method)
    assert plan.model_calls == calls


def test_the_fast_preset_counts_its_own_steps() -> None:
    method = Method(steps=20, stage_steps=4, start=0.25, stage_guidance_scale=1.0)
    plan = planned(2048, 2048, method=method)
    assert plan.base is not None
    assert (plan.base.steps, plan.stages[0].steps) == (20, 4)
    assert [stage.guided_steps for stage in plan.stages] == [4]
    assert plan.model_calls == 2 * 20 + round(4 * sum(stage.patches_per_step for stage in plan.stages))
    with pytest.raises(RequestError, match="training steps"):
        planned(2048, 2048, method=Method(steps=300, start=0.25))


@pytest.mark.parametrize(("side", "on_disk"), [(2048, False), (4096, False), (8192, True), (32768, True)])
def test_large_pictures_are_on_disk_and_need_no_more_memory(side: int, on_disk: bool) -> None:
    plan = planned(side, side)
    assert plan.on_disk == on_disk
    assert plan.peak_memory_bytes < 1_700_000_000
    assert plan.file_bytes + plan.canvas_bytes >= 7 * side**2


def test_slider_positions_apply_to_the_last_stages() -> None:
    method = Method(steps=20, merge="phase", slider=(0.2, 0.6))
    for smaller, guided in (((300, 512), [4, 4, 12]), ((512,), [4, 12]), ((), [12])):
        cascade = tuple(Size(side, side) for side in smaller)
        stages = planned(1024, 1024, cascade=cascade, method=method).stages
        assert [stage.guided_steps for stage in stages] == guided


@pytest.mark.parametrize(
    ("method", "guided"),
    [
        (Method(steps=20, merge="phase", slider=0.6), 12),
        (Method(steps=20, merge="phase", slider=0.0), 0),
        (Method(steps=20, slider=0.6), 20),
        (Method(steps=20, slider=0.2, slider_steps=0.5), 10),
        (Method(steps=20, slider=0.6, slider_steps=0.5), 12),
        (Method(steps=20, slider_map="painted.png", slider_steps=0.5), 20),
        # Of the whole schedule: a stage that starts at a quarter of it has gone through half of that share.
        (Method(steps=6, start=0.75, slider=0.2, slider_steps=0.5), 2),
        (Method(steps=6, start=0.75, slider=0.2, slider_steps=0.2), 1),
        (Method(steps=6, start=0.75, slider=1.0), 6),
        (Method(steps=20, slider=0.0), 0),
        (Method(steps=20, slider=0.0, slider_map="painted.png"), 20),
    ],
)
def test_guided_steps_follow_from_the_slider(method: Method, guided: int) -> None:
    assert planned(512, 512, method=method).stages[0].guided_steps == guided


def test_canvases_are_as_large_as_the_samplers_of_their_stages_need() -> None:
    """A sampler of second order keeps an estimate beside each latent."""
    plain, of_base, of_stages = (
        planned(512, 512, method=method).canvas_bytes
        for method in (Method(sampler="ddim"), Method(sampler="dpmpp-2m", stage_sampler="ddim"),
                       Method(sampler="ddim", stage_sampler="dpmpp-2m"))
    )  # fmt: skip
    assert plain == of_base < of_stages


def test_a_given_cascade_is_used() -> None:
    sizes = (Size(300, 300), Size(900, 700), Size(2000, 1500))
    assert tuple(stage.size for stage in planned(2000, 1500, cascade=sizes).stages) == sizes


def test_a_given_picture_starts_the_cascade() -> None:
    plan = planned(9600, 9600, start=Size(1000, 600))
    assert plan.base is None
    assert [stage.size for stage in plan.stages] == [Size(2400, 2400), Size(9600, 9600)]
    assert [stage.size for stage in planned(500, 500, start=Size(500, 500)).stages] == [Size(500, 500)]


@pytest.mark.parametrize(
    ("start", "size"),
    [(Size(1920, 1080), Size(2000, 4500)), (Size(2000, 500), Size(2100, 2100)), (Size(1000, 100), Size(4096, 4096))],
)
def test_a_given_picture_of_another_aspect_ratio_is_cropped_at_the_centre(start: Size, size: Size) -> None:
    assert planned(size.width, size.height, start=start).stages[-1].size == size


def test_a_larger_size_adds_a_stage_to_a_given_cascade_and_a_smaller_one_does_not() -> None:
    sizes = (Size(512, 512), Size(2048, 2048))
    below = planned(1536, 1024, cascade=sizes)
    assert tuple(stage.size for stage in below.stages) == sizes
    above = planned(4096, 4096, cascade=sizes)
    assert tuple(stage.size for stage in above.stages) == (*sizes, Size(4096, 4096))


@pytest.mark.parametrize(
    ("width", "height", "options"),
    [
        (500, 500, {"start": Size(600, 501)}),
        (500, 500, {"method": Method(steps=1001)}),
        (2048, 2048, {"cascade": (Size(100, 100), Size(2048, 2048))}),
        (2048, 2048, {"method": Method(border=20)}),
    ],
)
def test_impossible_requests_are_refused(width: int, height: int, options: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        planned(width, height, **options)


def test_memory_grows_with_pictures_in_memory_and_disk_with_all() -> None:
    plans = [planned(side, side) for side in (1024, 2048, 8192, 32768)]
    assert [plan.on_disk for plan in plans] == [False, False, True, True]
    disks = [plan.disk_bytes for plan in plans]
    assert 0 < disks[0] < disks[1] < disks[2] < disks[3]
    small, medium, large, huge = (plan.peak_memory_bytes for plan in plans)
    assert 4 * EMBEDDED_LIKE.parameters < small < medium
    assert large == huge


def test_memory_of_weights_follows_their_dtype() -> None:
    request = Request("a map", Size(1024, 1024))
    single, half = (make_plan(request, SDXL_LIKE, numbers=Numbers(size)).peak_memory_bytes for size in (4, 2))
    assert single - half == 2 * SDXL_LIKE.parameters


def test_memory_includes_the_batch_the_autoencoder_and_its_tiles() -> None:
    facts = replace(SDXL_LIKE, patch_values=10_000, tile_values=1_000)

    def beyond_the_weights(numbers: Numbers, **compute: Any) -> int:
        request = Request("a map", Size(16384, 16384), compute=Compute(**compute))
        return make_plan(request, facts, numbers=numbers).peak_memory_bytes - numbers.network * facts.parameters

    tile, patch = 2 * 1_000 * 1024**2, 2 * 10_000 * 128**2
    one, many, upcast = (beyond_the_weights(numbers) for numbers in (HALF, Numbers(2, 2, 8), Numbers(2, 4, 1)))
    libraries = one - tile
    assert many - libraries == 8 * patch > tile
    assert upcast - libraries == 2 * tile
    assert beyond_the_weights(HALF, tile=512) - libraries == max(tile // 4, patch)
    assert beyond_the_weights(HALF, tile=4096) == one, "no larger than its own"


def test_a_tile_must_be_larger_than_its_context() -> None:
    with pytest.raises(RequestError, match="tile: the autoencoder of x needs 384 pixels or more, got 383"):
        planned(2048, 2048, SDXL_LIKE, compute=Compute(tile=383))
    planned(2048, 2048, SDXL_LIKE, compute=Compute(tile=384))


def test_random_coverage_of_a_large_canvas_is_estimated_from_a_sample() -> None:
    plan = planned(16384, 16384, method=Method(coverage="random", steps=20))
    assert plan.stages[-1].patches_per_step / plan.stages[-1].fewest_patches_per_step == pytest.approx(2.2, abs=0.1)


def test_a_whole_canvas_counts_by_its_area() -> None:
    """With a native size of 256, a canvas of 1024 counts as 16 patches, in calls and in memory beyond the weights and
    libraries.
    """
    method = Method(steps=10, guidance_scale=1, strategy="direct")
    own, large, larger = (planned(side, side, method=method) for side in (256, 1024, 2048))
    assert [plan.model_calls for plan in (own, large, larger)] == [10, 160, 640]
    huge = planned(32768, 32768, method=method)
    assert huge.peak_memory_bytes > 200e9 > 20 * planned(32768, 32768).peak_memory_bytes


def test_dilated_sampling_needs_memory_for_whole_canvases() -> None:
    plans = [planned(side, side, method=Method(steps=1, strategy="demofusion")) for side in (4096, 8192)]
    grown = plans[1].peak_memory_bytes - LIBRARIES - 4 * EMBEDDED_LIKE.parameters
    assert grown >= 8 * EMBEDDED_LIKE.latent_channels * 4 * 1024**2
