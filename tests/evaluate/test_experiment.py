"""Protocols from their file to the table, in their tiny version and with the tiny model."""

from __future__ import annotations

import csv
import json
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pixelsmith import Compute, InputError, Request, RequestError, Size, generate
from pixelsmith.canvas import Array
from pixelsmith.config.recommended import Recommended
from pixelsmith.config.strategies import STRATEGIES
from pixelsmith.evaluate import report
from pixelsmith.evaluate.experiment import Outcome, Row, Setting, borders_of, run
from pixelsmith.evaluate.features import load_features
from pixelsmith.evaluate.jackknife import difference, estimate
from pixelsmith.evaluate.metrics import METRICS, Tools, load_metric
from pixelsmith.evaluate.pictures import Made, Pictures
from pixelsmith.evaluate.protocol import NAMES, EvaluationProtocol, Variant, load_protocol, request_of
from pixelsmith.evaluate.report import table, write_report
from pixelsmith.evaluate.seams import Borders
from pixelsmith.evaluate.shots import Shot
from pixelsmith.evaluate.truth import Truth, batches, load_truth
from pixelsmith.evaluate.upscalers import UpscalerWeights
from pixelsmith.families import read_facts
from pixelsmith.planning.coverages import coverage_of
from pixelsmith.sampling.readable import Readable

NEEDS_TRUTH = {"frechet", "kernel", "patch_frechet", "patch_kernel", "spectrum"}


def noise(count: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


BETWEEN = {"slider 0.2", "slider 0.4", "slider 0.8"}
"""Positions of the Slider in table1 that have others on both sides."""


def tiny_protocol(name: str) -> EvaluationProtocol:
    """The tiny version, in three steps, with the ends of each series of Slider positions, which all go the same way.

    The paper's border of 10 latents does not fit into the tiny model's patch of 16.
    """
    tiny, series = load_protocol(name).tiny(), dict[str, list[str]]()
    for variant in tiny.variants:
        series.setdefault(variant.series or variant.name, []).append(variant.name)
    ends = {end for names in series.values() for end in (names[0], names[-1])} - BETWEEN | {tiny.reference}
    kept = (variant for variant in tiny.variants if variant.name in ends)
    own = {"paper": {"border": 5}}
    quick = (replace(v, method={**v.method, "steps": 3, **own.get(v.preset or "", {})}) for v in kept)
    return replace(tiny, variants=tuple(quick))


def setting(model: Path, **changes: object) -> Setting:
    tools = Tools(load_features("judge"), Truth(noise(40), noise(40)))
    made = Setting(str(model), Compute("cpu", "float32"), lambda factor: tools, UpscalerWeights())
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def outcomes(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Outcome, Path]]:
    """The results of each protocol of the package in its tiny version, in one folder, so that common pictures are made
    once.
    """
    folder, found = tmp_path_factory.mktemp("evaluation"), {}
    program = torch.export.export(Doubled(), (torch.zeros(1, 3, 32, 32),))
    torch.export.save(program, folder / "doubled.pt2")
    for name in NAMES:
        output = folder / name
        output.mkdir()
        (output / "pictures").symlink_to(folder, target_is_directory=True)
        weights = UpscalerWeights(super_resolution=str(folder / "doubled.pt2"), model=str(tiny_model))
        outcome = run(tiny_protocol(name), output, setting(tiny_model, weights=weights), lambda line: None)
        write_report(outcome, output, {"protocol": name})
        found[name] = (outcome, output)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_writes_tables_and_pictures(outcomes: dict[str, tuple[Outcome, Path]], name: str) -> None:
    outcome, output = outcomes[name]
    protocol = tiny_protocol(name)
    missing = {"2x latent upscaler", "learned", "default, learned guide"} if name == "table3" else set()
    untaken = {"clip_score"} & set(protocol.metrics)
    with (output / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == [v.name for v in protocol.variants if v.name not in missing]
    taken = set(protocol.metrics) - untaken
    assert outcome.left_out.keys() == {*untaken, *missing, *protocol.left_out}
    for row in rows:
        assert row["pictures"] == "2"
        # Pictures of random weights have no flat place in which something could be invented.
        for metric in taken - {"invented"}:
            assert np.isfinite(float(row[metric])), metric
            assert np.isfinite(float(row[f"{metric}_difference"])), metric
        assert float(row["seconds"]) > 0
        assert float(row["peak_bytes"]) > 1e6
    assert {"seam_index", "duplication_index"} <= taken
    text = (output / "table.md").read_text()
    assert all(f"| {row['variant']} |" in text for row in rows)
    assert all(f"- {what}: " in text for what in outcome.left_out)
    with Image.open(output / "sheet.jpg") as sheet:
        assert sheet.height == 160 * len(rows)
    assert (output / "advice.png").exists() == (name in ("sweep", "held"))
    said = json.loads((output / "environment.json").read_text())
    assert len(said["pictures"]) == 2 * len(rows)
    assert {"torch", "diffusers"} <= set(said["versions"])
    assert (said["device"], said["dtype"], len(said["code_sha256"])) == ("cpu", "float32", 64)


def test_metrics_of_an_enlarged_base(outcomes: dict[str, tuple[Outcome, Path]]) -> None:
    """It has all of the base's structure and colours, and no detail."""
    rows = {row.variant: row for row in outcomes["table2"][0].rows}
    values = {name: found.value for name, found in rows["lanczos"].values.items()}
    assert values["structure"] > 0.98
    assert values["colour_mean"] < 0.3
    assert values["spectrum"] > rows["default"].values["spectrum"].value
    same = {row.variant: row for row in outcomes["table3"][0].rows}["lanczos"]
    for name in ("structure", "spectrum", "duplication_index"):
        assert same.values[name].value == pytest.approx(values[name], abs=1e-3)


def test_the_processor_is_named_if_the_system_reports_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "cpuinfo"
    monkeypatch.setattr(report, "_CPUINFO", told)
    assert report.processor() == (platform.processor() or platform.machine())
    told.write_text("processor\t: 0\nmodel name\t: Some CPU 9\nflags\t: fpu\nmodel name\t: Some CPU 9\n")
    assert report.processor() == "Some CPU 9"


PAIR = EvaluationProtocol(
    name="pair",
    title="A pair",
    prompts={"embedded": ("a map",), "other": ("a map",)},
    seeds=(0,),
    factors=(1.5,),
    metrics=("structure", "colour_mean"),
    reference="one",
    variants=(Variant("one", method={"steps": 1}), Variant("two", method={"steps": 2})),
)


def test_a_second_run_makes_no_pictures(tiny_model: Path, tmp_path: Path) -> None:
    first = run(PAIR, tmp_path, setting(tiny_model), lambda line: None)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "pictures").iterdir()}
    second = run(PAIR, tmp_path, setting(tiny_model), lambda line: None)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pictures").iterdir()} == files
    values = [[[found.value for found in row.values.values()] for row in outcome.rows] for outcome in (first, second)]
    assert values[0] == values[1]
    # Another seed is another picture, and only that one is made.
    run(replace(PAIR, seeds=(0, 1)), tmp_path, setting(tiny_model), lambda line: None)
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / "pictures").iterdir()}
    assert files.items() < now.items()


def test_an_interrupted_experiment_is_continued(tiny_model: Path, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(PAIR, tmp_path, setting(tiny_model), stop)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "pictures").iterdir()}
    assert done
    run(PAIR, tmp_path, setting(tiny_model), lambda line: None)
    assert done.items() < {path: path.stat().st_mtime_ns for path in (tmp_path / "pictures").iterdir()}.items()


def test_the_picture_of_a_variant_equals_that_of_generate(tiny_model: Path, tmp_path: Path) -> None:
    outcome = run(PAIR, tmp_path, setting(tiny_model), lambda line: None)
    request = Request(
        "a map", Size(96, 96), model=str(tiny_model), method=PAIR.variants[1].chosen,
        compute=Compute("cpu", "float32"),
    )  # fmt: skip
    (row,) = (row for row in outcome.rows if row.variant == "two")
    with Image.open(row.made[0].path) as image:
        assert np.array_equal(np.asarray(image), generate(request).pixels)


def test_borders_are_those_of_the_last_step(tiny_model: Path) -> None:
    """At the borders of its grid; a picture without patches has those of the default method."""
    facts = read_facts(tiny_model, str(tiny_model))
    request = Request("a map", Size(256, 256), model=str(tiny_model))
    borders = borders_of(request, facts)
    grid = coverage_of(1, Size(64, 64), request, facts).patches(facts.recommended.steps - 1)
    # A patch begins to count where its ramp of one latent begins: half and half where the ramp fills the overlap, and
    # then both sides of that latent are borders.
    begins = {grid.kept(i).left for i in range(len(grid))} - {0}
    found = set(np.flatnonzero(borders.across.any(0)).tolist())
    assert all({begin - 1, begin} & found for begin in begins)
    assert found <= {edge for begin in begins for edge in (begin - 1, begin)}
    alone = borders_of(request.with_method(strategy="lanczos"), facts)
    assert np.array_equal(alone.across, borders.across)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics": ("beauty",)}, "beauty"),
        ({"reference": "three"}, "three"),
        ({"seeds": ()}, "empty"),
        ({"seeds": (0, 1, 0)}, "seeds"),
        ({"factors": (2, 4, 2)}, "factors"),
        ({"factors": (0.5,)}, "factors"),
        ({"factors": ("x",)}, "factors"),
        ({"factors": (float("nan"),)}, "factors"),
        ({"prompts": {"other": ("a", "a")}}, "other"),
        ({"prompts": {"other": "a map"}}, "prompts"),
        ({"prompts": {"other": (3,)}}, "prompts"),
        ({"variants": (Variant("one", stages=0),)}, "stages"),
        ({"left_out": "x"}, "left_out"),
        ({"variants": (Variant("one", preset="odd"),)}, "odd"),
        ({"variants": (Variant("one", upscaler="odd"),)}, "odd"),
        ({"variants": (Variant("one", method={"speed": 9}),)}, "speed"),
        ({"variants": (Variant("one", method={"slider": 9}),)}, "slider"),
        ({"variants": (Variant("one", expected={"structure": "better"}),)}, "higher or lower"),
        ({"variants": (Variant("one", expected={"seam_index": "lower"}),)}, "seam_index"),
    ],
)
def test_invalid_protocols_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        replace(PAIR, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompts": {"embedded": ("a map",)}}, "no prompts"),
        ({"variants": (Variant("one"), Variant("two", method={"slider_steps": 0.99}))}, "same pictures"),
        # Left open, the cascade has two stages there.
        ({"factors": (16.0,), "variants": (Variant("one"), Variant("two", stages=2))}, "same pictures"),
    ],
)
def test_variants_that_do_not_fit_the_model_are_refused_before_any_picture(
    tiny_model: Path, tmp_path: Path, changes: dict, said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        run(replace(PAIR, **changes), tmp_path, setting(tiny_model), lambda line: None)
    assert not list(tmp_path.rglob("*.png"))


def test_a_dry_run_says_so_and_may_repeat_pictures(tiny_model: Path, tmp_path: Path) -> None:
    """In a few steps, positions of the Slider that are near each other guide the same steps."""
    variants = tuple(Variant(f"slider {s}", method={"merge": "phase", "slider": s}) for s in (0.7, 0.75))
    dry = replace(PAIR, variants=variants, reference="slider 0.7").tiny()
    outcome = run(dry, tmp_path, setting(tiny_model), lambda line: None)
    assert {name: found.value for name, found in outcome.rows[0].values.items()} == {
        name: found.value for name, found in outcome.rows[1].values.items()
    }
    assert "A dry run" in table(outcome, {})
    assert "A dry run" not in table(replace(outcome, protocol=replace(dry, dry_run=False)), {})


def test_a_dry_run_of_the_ablations_guides_some_steps_and_not_others() -> None:
    for variant in load_protocol("table1").tiny().variants:
        weights = STRATEGIES["pixelsmith"].weights(variant.chosen.at(1, Recommended()))
        if variant.method["merge"] != "hold":
            assert (max(weights) > 0, min(weights) == 0) == (
                variant.method["slider"] > 0,
                variant.method["slider"] < 0.9,
            )


def test_the_sheet_reads_each_picture_once(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn again after each row."""
    shrunk_sizes = []

    def shrunk(picture: Readable, size: Size) -> np.ndarray:
        shrunk_sizes.append(size)
        return np.zeros((size.height, size.width, 3), np.uint8)

    monkeypatch.setattr(report, "shrunk", shrunk)
    run(PAIR, tmp_path, setting(tiny_model), lambda line: None, lambda told: write_report(told, tmp_path, {}))
    assert len(shrunk_sizes) == 2


def test_a_failed_row_is_left_out_with_its_reason(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results so far are reported after each row."""

    def made(self: Pictures, request: Request) -> Made:
        if request.method.steps == 2:
            raise torch.OutOfMemoryError("no room\nfor it")
        return whole(self, request)

    whole = Pictures.made
    monkeypatch.setattr(Pictures, "made", made)
    told: list[Outcome] = []
    protocol = replace(PAIR, variants=(*PAIR.variants, Variant("three", method={"steps": 3})))
    outcome = run(protocol, tmp_path, setting(tiny_model), lambda line: None, told.append)
    assert [row.variant for row in outcome.rows] == ["one", "three"]
    assert outcome.left_out == {"two, 96x96": "no room"}
    assert [len(found.rows) for found in told] == [1, 1, 2]


def test_metrics_of_crops_depend_on_single_pixels() -> None:
    """A checkerboard of ±40 on grey, which vanishes if a crop is scaled down to the network's input."""
    rows, columns = np.ogrid[:256, :256]
    plain = np.full((3, 256, 256), 128, np.uint8)
    checked = np.broadcast_to(128 + 40 * (2 * ((rows + columns) % 2) - 1), (3, 256, 256)).astype(np.uint8)
    tools = Tools(load_features("judge"), Truth(noise(40, 256), noise(40, 256)))
    borders = Borders.of([], Size(4, 4), 8)
    metric = load_metric("patch_frechet", tools)
    values = []
    for pixels in (plain, checked):
        picture = Array(torch.from_numpy(pixels.copy()))
        shot = Shot("a", picture, plain.transpose(1, 2, 0), borders, 256, Size(256, 256), 0)
        values.append(metric.value([metric.describe(shot)] * 2))
    assert abs(values[1] - values[0]) > 0.01 * values[0]


def test_crops_of_other_prompts_are_at_other_positions() -> None:
    picture, base = Array(torch.from_numpy(noise(1, 128)[0]).permute(2, 0, 1)), noise(1, 32)[0]
    borders = Borders.of([], Size(4, 4), 8)
    a, b = (Shot(prompt, picture, base, borders, 32, Size(32, 32), 0).crops(32) for prompt in ("a", "b"))
    assert not np.array_equal(a, b)
    assert np.array_equal(a, Shot("a", picture, base, borders, 32, Size(32, 32), 0).crops(32))


@pytest.mark.parametrize("text", ["variants = 3", "not toml", 'title = "x"'])
def test_files_that_are_not_protocols_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(RequestError, match=r"mine\.toml"):
        load_protocol(str(tmp_path / "mine.toml"))


def test_a_user_defined_protocol(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'title = "Mine"\nseeds = [3]\nfactors = [2]\nreference = "a"\nmetrics = ["structure"]\n'
        '[[variants]]\nname = "a"\n[[variants]]\nname = "b"\npreset = "fast"\nmethod = {slider = 0.3}\n'
    )
    protocol = load_protocol(str(tmp_path / "mine.toml"))
    assert protocol.name == "mine"
    assert (protocol.variants[1].chosen.slider, protocol.variants[1].chosen.stage_steps) == (0.3, 6)
    cases = list(protocol.cases("embedded", Size(256, 256)))
    assert {case.size for case in cases} == {Size(512, 512)}
    assert len(cases) == len(load_protocol("table1").prompts["embedded"])


def test_positions_of_the_slider_make_a_series(tmp_path: Path) -> None:
    """One number, or one for each of two stages with equal factors."""
    (tmp_path / "mine.toml").write_text(
        'title = "Mine"\nseeds = [3]\nfactors = [4]\nreference = "a, Slider 0.5"\nmetrics = ["structure"]\n'
        '[[variants]]\nname = "a"\nsliders = [0, 0.5]\n[[variants]]\nname = "b"\nstages = 2\nsliders = [[0.5, 1]]\n'
    )
    protocol = load_protocol(str(tmp_path / "mine.toml"))
    names = [(variant.name, variant.series, variant.chosen.slider) for variant in protocol.variants]
    assert names == [("a, Slider 0", "a", 0), ("a, Slider 0.5", "a", 0.5), ("b, Slider 0.5, 1", "b", (0.5, 1))]
    (case, *_) = protocol.cases("embedded", Size(256, 256))
    cascades = [request_of(variant, case, "embedded", Compute()).cascade for variant in protocol.variants]
    assert cascades == [(), (), (Size(512, 512), Size(1024, 1024))]


def test_a_series_is_selected_by_its_name() -> None:
    names = [variant.name for variant in load_protocol("sweep").part(only=["fast"]).variants]
    positions = ("0.1", "0.2", "0.35", "0.5", "1")
    assert names == ["default, Slider 0.2", *(f"fast, Slider {position}" for position in positions)]


@pytest.mark.parametrize(
    ("values", "spread", "said"),
    [
        ([2.0, 2.5], 0.1, "yes (+0.5 ±"),
        ([2.5, 2.0], 0.1, "no, the reverse (-0.5 ±"),
        ([2.0, 2.0], 0.1, "not significant ("),
    ],
)
def test_expected_directions_are_tested(values: list[float], spread: float, said: str) -> None:
    """By the paired difference of the variant from the reference over twelve prompts."""
    noise_a, noise_b = np.random.default_rng(0).standard_normal((2, 12)) * spread
    # Freed of their means, so that the difference is the one asked for.
    kept = [value + part - part.mean() for value, part in zip(values, (noise_a, noise_b), strict=True)]
    without = [(x.sum() - x) / 11 for x in kept]
    numbers = [estimate(x.mean(), parts) for x, parts in zip(kept, without, strict=True)]
    apart = [difference(x.mean(), kept[0].mean(), parts, without[0]) for x, parts in zip(kept, without, strict=True)]
    variants = (PAIR.variants[0], replace(PAIR.variants[1], expected={"structure": "higher", "colour_mean": "lower"}))
    protocol = replace(PAIR, variants=variants)
    rows = [
        Row(variant.name, Size(96, 96), [], [Made(Path(), 1.0, 1)], {"structure": number}, {"structure": away})
        for variant, number, away in zip(variants, numbers, apart, strict=True)
    ]
    text = table(Outcome(protocol, rows, {"structure": "higher"}, {}, {}), {})
    assert f"- two, 96x96: structure higher: {said}" in text
    assert "- two, 96x96: colour_mean lower: not measured" in text


def test_protocols_name_only_metrics_that_exist() -> None:
    for name in NAMES:
        assert {"seam_index", "duplication_index"} <= set(load_protocol(name).metrics) <= set(METRICS)


def test_truth_from_files(tmp_path: Path) -> None:
    """A folder of pictures, an array, and a folder with separate whole pictures and patches."""
    for i, pixels in enumerate(noise(3, 96)):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    truth = load_truth(tmp_path, 64, 2)
    whole, patches = (np.concatenate(list(batches(photos))) for photos in (truth.whole, truth.patches))
    assert whole.shape == (3, 64, 64, 3)
    assert np.array_equal(patches, noise(3, 96)[:, 16:80, 16:80])
    assert np.array_equal(next(batches(truth.patches, 32)), noise(3, 96)[:, 32:64, 32:64])
    both = tmp_path / "both"
    both.mkdir()
    np.save(both / "whole.npy", noise(5))
    np.save(both / "patches.npy", noise(7))
    assert [len(part) for part in (load_truth(both, 64, 2).whole, load_truth(both, 64, 2).patches)] == [5, 7]
    assert len(load_truth(both / "whole.npy", 64, 2).patches) == 5


def test_each_factor_has_real_pictures_of_its_resolution(tmp_path: Path) -> None:
    for name, count in (("whole", 3), ("patches-2x", 4), ("patches-4x", 5)):
        np.save(tmp_path / f"{name}.npy", noise(count))
    assert [len(load_truth(tmp_path, 64, factor).patches) for factor in (1.0, 2.0, 4.0)] == [3, 4, 5]
    with pytest.raises(InputError, match=r"no patches-3x"):
        load_truth(tmp_path, 64, 3.0)


@pytest.mark.parametrize("what", ["missing", "empty", "small", "array", "wide", "several.npz", "nothing.npy"])
def test_unusable_truth_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "small").mkdir()
    for i in range(2):
        Image.new("RGB", (9, 9)).save(tmp_path / "small" / f"{i}.png")
    np.save(tmp_path / "array", np.zeros((3, 4)))
    np.save(tmp_path / "wide", noise(3, 32))
    np.savez(tmp_path / "several", noise(2), noise(2))
    (tmp_path / "nothing.npy").touch()
    path = tmp_path / (f"{what}.npy" if what in ("array", "wide") else what)
    with pytest.raises(InputError, match="truth"):
        load_truth(path, 64, 2)


def test_photos_may_have_any_names(tmp_path: Path) -> None:
    for name in ("wholesale.png", "patches_of_grass.png"):
        Image.new("RGB", (80, 80)).save(tmp_path / name)
    assert len(load_truth(tmp_path, 64, 2).whole) == 2
    np.save(tmp_path / "patches-2x.npy", np.zeros((4, 64, 64, 3), np.uint8))
    with pytest.raises(InputError, match=r"has patches-2x.npy and no whole"):
        load_truth(tmp_path, 64, 2)
