"""The command ``pixelsmith batch``."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelsmith import LoadedModel, Request, RequestError, Size
from pixelsmith.cli.batch import output_of, rows_of, seeds_of, spread
from pixelsmith.pixels.settings_inside import read_settings
from tests.cli.test_program import Call, call  # noqa: F401 (a fixture)
from tests.stopping import stop_at

ROWS = [{"prompt": "a map, old", "seed": 3, "size": "80x60"}, {"prompt": 'a "coast"', "lora": ["a", "b"]}]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_are_the_same_in_every_format(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n")
    toml = write(
        tmp_path / "a.toml",
        '[[picture]]\nprompt = "a map, old"\nseed = 3\nsize = "80x60"\n'
        '[[picture]]\nprompt = \'a "coast"\'\nlora = ["a", "b"]\n',
    )
    assert rows_of(lines) == rows_of(toml) == ROWS
    table = write(tmp_path / "a.csv", '\ufeffprompt,seed,size\r\n"a map, old",3,80x60\r\n"a ""coast""",,\r\n')
    assert rows_of(table) == [{"prompt": "a map, old", "seed": "3", "size": "80x60"}, {"prompt": 'a "coast"'}]
    shared = write(tmp_path / "b.toml", 'size = "64"\n[[picture]]\nprompt = "x"\n[[picture]]\nsize = "80"\n')
    assert rows_of(shared) == [{"size": "64", "prompt": "x"}, {"size": "80"}]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "expected a file that ends in .csv, .jsonl"),
        ("a.csv", "prompt\na,b\n", "line 2 has more cells"),
        ("a.jsonl", '{"prompt": "a"}\n[1]\n', "line 2 is not a JSON object"),
        ("a.toml", "prompt = 'a'\n", r"a table \[\[picture\]\]"),
        ("a.toml", "prompt = \n", "a.toml: "),
    ],
)
def test_invalid_tables_are_refused_with_the_reason(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        rows_of(write(tmp_path / name, text))


def test_binary_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"prompt\n\xff\n")
    with pytest.raises(RequestError, match=r"expected text in UTF-8 .* at byte 7"):
        rows_of(tmp_path / "a.csv")
    with pytest.raises(RequestError, match="cannot be read"):
        rows_of(tmp_path / "nowhere.csv")


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 20)), min_size=1, max_size=5))
def test_seeds_are_numbers_and_ranges(parts: list[tuple[int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}" if more else str(first) for first, more in parts)
    assert seeds_of(text) == [seed for first, more in parts for seed in range(first, first + more + 1)]


@pytest.mark.parametrize("text", ["", "3-1", "a", "1,,2", "-1", "0-99999999", str(2**64)])
def test_invalid_seeds_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="seeds: expected numbers and ranges such as 0-9,20"):
        seeds_of(text)


def test_each_picture_of_a_folder_and_each_seed_is_a_row(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", "._a.png"):
        (tmp_path / name).touch()
    rows = list(spread({"from_image": str(tmp_path), "seeds": "0-1"}))
    assert [(Path(row["from_image"]).name, row["seed"]) for row in rows] == [
        ("a.png", 0), ("a.png", 1), ("b.JPG", 0), ("b.JPG", 1)
    ]  # fmt: skip
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="there are no pictures in the folder"):
        list(spread({"from_image": str(tmp_path / "empty")}))
    with pytest.raises(RequestError, match="not both"):
        list(spread({"seed": 1, "seeds": "0-1"}))


@pytest.mark.parametrize(
    ("template", "changes", "expected"),
    [
        ("out/{index}.png", {}, "out/007.png"),
        ("{index:05}-{seed}.tif", {"seed": 9}, "00007-9.tif"),
        ("{name}-{size}.png", {"from_image": "in/My photo.v2.jpg"}, "My-photo.v2-80x60.png"),
        ("{name}.png", {"prompt": " ../../etc: a/b, “Zürich” 東京 "}, "etc-a-b-Zürich-東京.png"),
        ("{prompt:.5}.png", {}, "a-map.png"),
        ("{name}.png", {"prompt": "?!"}, "picture.png"),
    ],
)
def test_names_follow_a_template(template: str, changes: dict[str, Any], expected: str) -> None:
    request = replace(Request("a map of islands", Size(80, 60)), **changes)
    assert output_of(template, 7, 120, request) == Path(expected)


@pytest.mark.parametrize("template", ["{colour}.png", "{}.png", "{index", "{size.width}.png", "{seed:x y}.png"])
def test_invalid_templates_are_refused(template: str) -> None:
    with pytest.raises(RequestError, match=r"output: expected a name with .*\{index\}, .*\{name\}"):
        output_of(template, 1, 1, Request("a map", Size(80, 60)))


@given(st.text(min_size=1).filter(str.strip))
def test_prompts_in_names_cannot_leave_the_folder(prompt: str) -> None:
    try:
        request = Request(prompt, Size(80, 60))
    except RequestError:
        return
    place = output_of("out/{name}.png", 1, 1, request)
    assert place.parent == Path("out")
    assert len(place.name) <= 64


@pytest.fixture
def common(tiny_model: Path) -> tuple[object, ...]:
    return "--model", tiny_model, "--steps", 1, "--size", "64", "--device", "cpu", "--dtype", "float32"


def test_rows_override_defaults_and_existing_pictures_are_kept(
    call: Call,
    common: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = write(tmp_path / "all.csv", "prompt,size,seed,chess-mask\na map,,,no\na coast,80x60,5,\n")
    arguments = ("batch", table, *common, "-o", tmp_path / "out" / "{index}-{name}-{seed}.png", "--seed", 2)
    code, out, _ = call(*arguments, "--sheet", tmp_path / "sheet.png")
    assert (code, sorted(path.name for path in (tmp_path / "out").iterdir())) == (
        0,
        ["1-a-map-2.png", "2-a-coast-5.png"],
    )
    first, second = (read_settings(path)["request"] for path in sorted((tmp_path / "out").iterdir()))
    assert (first["size"], first["seed"], first["method"]["chess_mask"]) == ("64x64", 2, False)
    assert (second["size"], second["seed"], second["method"]["chess_mask"]) == ("80x60", 5, True)
    assert f"2/2 {tmp_path}/out/2-a-coast-5.png made" in out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * 268 + 12, 286 + 12)

    (tmp_path / "out" / "1-a-map-2.png").unlink()
    made: list[int] = []
    generate = LoadedModel.generate

    def counted(model: LoadedModel, request: Request, *more: Any, **named: Any) -> object:
        made.append(request.seed)
        return generate(model, request, *more, **named)

    monkeypatch.setattr(LoadedModel, "generate", counted)
    code, out, _ = call(*arguments)
    assert (code, made) == (0, [2])
    assert "2/2" in out
    assert "is there already" in out


def test_a_failed_picture_does_not_stop_the_others(
    call: Call,
    common: tuple[object, ...],
    tmp_path: Path,
) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "2.png")
    code, out, err = call(
        "batch", "--prompt", "a map", *common, "--seeds", "1-3", "-o", tmp_path / "{seed}.png", "--json"
    )  # fmt: skip
    finished = [event for event in map(json.loads, out.splitlines()) if event["event"] == "PictureFinished"]
    assert [event["outcome"] for event in finished] == ["made", "failed", "made"]
    assert "there is a file already" in finished[1]["reason"]
    assert (code, err) == (1, "pixelsmith: 1 of 3 pictures were not made: 2\n")


def test_a_batch_resumes_an_interrupted_run(
    call: Call,
    common: tuple[object, ...],
    tmp_path: Path,
) -> None:
    from pixelsmith import generate

    output = tmp_path / "1.png"
    context: dict[str, Any] = {}

    def remember(model: LoadedModel, request: Request, *more: Any, **named: Any) -> None:
        context["request"] = request
        raise RequestError("only to know it")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LoadedModel, "generate", remember)
        call("batch", "--prompt", "a map", *common, "--seed", 1, "-o", tmp_path / "{seed}.png", "--quiet")

    with pytest.raises(KeyboardInterrupt):
        generate(context["request"], output, stop_at(), run_dir=f"{output}.run")
    code, *_ = call("batch", "--prompt", "a map", *common, "--seed", 1, "-o", tmp_path / "{seed}.png")
    assert (code, output.exists()) == (0, True)
    output.unlink()
    code, *_ = call("batch", "--prompt", "another", *common, "--seed", 1, "-o", tmp_path / "{seed}.png", "--quiet")
    assert code == 1
    assert not output.exists(), "the run is that of another picture"


def test_a_random_seed_is_reported_and_kept_for_the_next_run(
    call: Call, common: tuple[object, ...], tmp_path: Path
) -> None:
    code, out, _ = call("generate", "a map", *common, "--seed", "random", "-o", tmp_path / "one.png")
    seed = read_settings(tmp_path / "one.png")["request"]["seed"]
    assert code == 0
    assert f"seed {seed}\n" in out
    arguments = ("batch", "--prompt", "a map", *common, "--seed", "random", "-o", tmp_path / "{index}.png")
    assert call(*arguments)[0] == 0
    before = (tmp_path / "1.png").read_bytes()
    code, out, _ = call(*arguments)
    assert (code, (tmp_path / "1.png").read_bytes()) == (0, before)
    assert "is there already" in out


def test_pictures_of_a_folder_are_listed_before_they_are_made(
    call: Call,
    common: tuple[object, ...],
    tmp_path: Path,
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (60, 40), "teal").save(tmp_path / "in" / f"{name}.jpg")
    code, out, err = call(
        "batch", "--prompt", "a sea", "--from-image", tmp_path / "in", "--size", "0.024MP", "-o", "{name}.png",
        "--dry-run",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.splitlines() == ["1  a.png  190x126  seed 0", "2  b.png  190x126  seed 0"]


def test_pictures_may_not_be_written_among_those_that_the_same_command_would_start_from_next_time(
    call: Call, common: tuple[object, ...], tmp_path: Path
) -> None:
    Image.new("RGB", (60, 40), "teal").save(tmp_path / "a.jpg")
    start = ("batch", "--prompt", "a sea", "--from-image", tmp_path, *common, "--dry-run")
    for places in (("-o", tmp_path / "{name}-large.png"), ("-o", "{name}.png", "--sheet", tmp_path / "sheet.jpg")):
        code, _, err = call(*start, *places)
        assert code == 2
        assert "would be among the pictures to start from when this command is given again" in err
    assert call(*start, "-o", tmp_path / "{name}.dzi")[0] == 0


def test_a_contact_sheet_replaces_only_a_contact_sheet(call: Call, common: tuple[object, ...], tmp_path: Path) -> None:
    photo = tmp_path / "sheet.jpg"
    Image.new("RGB", (9, 9)).save(photo)
    before = photo.read_bytes()
    arguments = ("batch", "--prompt", "a map", *common, "-o", tmp_path / "{index}.png", "--quiet")
    code, _, err = call(*arguments, "--sheet", photo)
    assert (code, photo.read_bytes() == before, (tmp_path / "1.png").exists()) == (2, True, False)
    assert "there is a file already, which is no contact sheet" in err
    for suffix in ("jpg", "png"):
        for _ in range(2):
            assert call(*arguments, "--sheet", tmp_path / f"new.{suffix}")[0] == 0
    assert call(*arguments, "--sheet", photo, "--overwrite")[0] == 0
    assert photo.read_bytes() != before


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ('{"prompt": "a"}\n{"sise": 64}', (), "row 2: there is no option 'sise'"),
        ('{"prompt": "a"}\n{}', (), "row 2: it has no prompt; give it one, or all of them with --prompt"),
        ('{"seed": 1}', (), "row 1: it has no prompt; give it one, or all of them with --prompt"),
        ('{"prompt": "a", "seed": "high"}', (), "row 1: Invalid value for '--seed'"),
        ('{"prompt": "a", "slider": 7}', (), "row 1: slider: expected a number from 0 to 1"),
        ('{"prompt": "a", "guidance-interval": "x"}', (), "row 1: Invalid value: guidance interval"),
        ('{"prompt": "a"}\n{"prompt": "b"}', ("-o", "x.png"), "pictures 1 and 2 would both be x.png"),
        ('{"prompt": "a"}', ("--seed", 1, "--seeds", "1-2"), "seeds: give one seed, or several"),
        ("", (), "there are no pictures to make"),
        ('{"prompt": "a"}', ("--sheet", "sheet.gif"), "expected a name that ends in .png"),
    ],
)
def test_an_invalid_row_is_refused_in_one_line_before_any_work(
    call: Call,
    tmp_path: Path,
    text: str,
    more: tuple[object, ...],
    message: str,
) -> None:
    table = write(tmp_path / "all.jsonl", text)
    code, out, err = call("batch", table, "--size", 64, "-o", "{index}.png", *more)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_model_is_loaded_once_for_all_pictures(
    call: Call, common: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    load_family = import_module("pixelsmith.api.lifecycle").load_family

    def counted(*given: Any) -> object:
        loaded.append(given)
        return load_family(*given)

    monkeypatch.setattr("pixelsmith.api.lifecycle.load_family", counted)
    code, *_ = call("batch", "--prompt", "a map", *common, "--seeds", "0-2", "-o", tmp_path / "{seed}.png")
    assert (code, len(loaded), len(list(tmp_path.glob("*.png")))) == (0, 1, 3)
