"""The nodes of ComfyUI with tiny true models: where COMFYUI names a checkout of it (0.3.64 or newer)."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from pixelsmith import PRESETS, RequestError, Size

CHECKOUT = os.environ.get("COMFYUI", "")
NODES = Path(__file__).parents[2] / "integrations" / "comfyui"
TINY = Path(__file__).parent / "tiny_nodes"
KINDS = ["SDXL", "SD3", "Flux"]
pytestmark = [
    pytest.mark.skipif(not CHECKOUT, reason="COMFYUI names no checkout of ComfyUI"),
    # Its own, and those of what it imports.
    pytest.mark.filterwarnings("ignore"),
]


def imported(name: str, folder: Path) -> ModuleType:
    """As ComfyUI imports a folder of nodes."""
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """ComfyUI on the CPU, with folders of its own."""
    sys.path.insert(0, CHECKOUT)
    from comfy.cli_args import args

    args.cpu = True
    import comfy.model_management
    import folder_paths

    for name in ("output", "input", "temp"):
        folder = tmp_path_factory.mktemp(name)
        getattr(folder_paths, f"set_{name}_directory")(str(folder))
    yield comfy
    sys.path.remove(CHECKOUT)


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> ModuleType:
    return imported("pixelsmith_nodes", NODES)


@pytest.fixture(scope="module")
def tiny(comfy: ModuleType) -> ModuleType:
    return imported("tiny_nodes", TINY)


@pytest.fixture(scope="module", params=KINDS)
def given(request: pytest.FixtureRequest, tiny: ModuleType) -> dict[str, Any]:
    """What the nodes are given of a model."""
    return inputs_of(tiny, request.param)


def inputs_of(tiny: ModuleType, name: str, **changes: Any) -> dict[str, Any]:
    model, vae = tiny.MODELS[name]()
    usual = {
        "model": model, "vae": vae, "positive": tiny.conditioning(1), "negative": tiny.conditioning(2), "width": 64,
        "height": 64, "seed": 5, "steps": 3, "cfg": 3.0, "scheduler": "normal", "slider": 0.5, "method": method(),
    }  # fmt: skip
    return usual | changes


def method(native: int = 64, **changes: Any) -> dict[str, Any]:
    """As the node for it gives it."""
    return {"method": replace(PRESETS["default"], **changes), "native": native, "batch_size": 2}


def made(nodes: ModuleType, name: str, **given: Any) -> Any:
    """What a node gives, run as ComfyUI runs it."""
    kind = getattr(sys.modules[f"{nodes.__name__}.nodes"], name)
    with torch.inference_mode():
        return kind.execute(**given)


def test_one_patch_equals_the_result_of_the_comfyui_sampler(nodes: ModuleType, given: dict[str, Any]) -> None:
    """Of the same seed, steps and guidance, decoded by the same autoencoder."""
    import comfy.sample

    (found,) = made(nodes, "PixelsmithGenerate", **given).args
    model, latent = given["model"], torch.zeros(1, given["vae"].latent_channels, 8, 8)
    with torch.inference_mode():
        samples = comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(latent, 5),
            3,
            3.0,
            "euler",
            "normal",
            given["positive"],
            given["negative"],
            latent,
            seed=5,
        )
        expected = given["vae"].decode(samples)
    assert found.shape == expected.shape == (1, 64, 64, 3)
    assert expected.std() > 0.01
    assert (found - expected).abs().max() <= 1.01 / 255


def test_a_larger_picture_is_made_in_patches_and_guided(nodes: ModuleType, given: dict[str, Any]) -> None:
    (large,) = made(nodes, "PixelsmithGenerate", **given | {"width": 160, "height": 112}).args
    assert large.shape == (1, 112, 160, 3)
    start = torch.rand(1, 56, 80, 3, generator=torch.Generator().manual_seed(0))
    wanted = given | {"width": 160, "height": 112, "image": start}
    (held,), (free,) = (made(nodes, "PixelsmithGenerate", **wanted | {"slider": slider}).args for slider in (1.0, 0.0))
    enlarged = torch.nn.functional.interpolate(start.movedim(-1, 1), (112, 160), mode="bicubic").movedim(1, -1)
    through = given["vae"].decode(given["vae"].encode(enlarged))
    assert (held - through).abs().mean() < (free - through).abs().mean()


def test_the_method_node_offers_the_choices_of_presets(nodes: ModuleType) -> None:
    method = importlib.import_module(f"{nodes.__name__}.nodes").PixelsmithMethod
    drawn = {one.id: one for one in method.define_schema().inputs}
    for name, chosen in (("sampler", "dpmpp-2m"), ("merge", "hold"), ("coverage", "random")):
        assert drawn[name].options[0] == "as the preset"
        assert chosen in drawn[name].options


def test_masks_select_where_the_slider_acts_and_what_is_repainted(nodes: ModuleType, tiny: ModuleType) -> None:
    start = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    half = torch.zeros(1, 64, 64)
    half[..., 32:] = 1
    given = inputs_of(tiny, "SDXL", width=128, height=128, image=start)
    plain, painted, masked = (
        made(nodes, "PixelsmithGenerate", **given | more).args[0]
        for more in ({"slider": 0.0}, {"slider_map": half}, {"mask": half, "slider": 0.0})
    )
    assert not torch.equal(painted, plain)
    enlarged = torch.from_numpy(_enlarged(start, 128)) / 255
    left, right = ((masked - enlarged)[:, :, part].abs().mean() for part in (slice(0, 48), slice(80, None)))
    assert left < 0.01 < right


def _enlarged(picture: torch.Tensor, side: int) -> np.ndarray:
    from PIL import Image

    values = (picture[0] * 255).round().to(torch.uint8).numpy()
    return np.asarray(Image.fromarray(values).resize((side, side), Image.Resampling.LANCZOS)).astype(np.float32)


def test_sdxl_receives_the_size_of_the_picture_and_the_position_of_the_patch(
    nodes: ModuleType, tiny: ModuleType
) -> None:
    given, told = inputs_of(tiny, "SDXL", width=160, height=112, method=method(merge="phase")), list[torch.Tensor]()
    model, real = given["model"].model, given["model"].model.apply_model

    def listen(*args: Any, **options: Any) -> torch.Tensor:
        told.extend(options["y"][:, 2 * tiny.WIDTH :].reshape(-1, 6, 256))
        output: torch.Tensor = real(*args, **options)
        return output

    model.apply_model = listen
    made(nodes, "PixelsmithGenerate", **given)

    def embedded(*numbers: int) -> torch.Tensor:
        return torch.cat([model.embedder(torch.Tensor([number])) for number in numbers])

    assert all(torch.equal(one[[0, 1, 4, 5]], told[0][[0, 1, 4, 5]]) for one in told[:3])
    stages = [one for one in told if torch.equal(one[:2], embedded(112, 160))]
    assert all(torch.equal(one[4:], embedded(112, 160)) for one in stages)
    places = {tuple(one[2:4].flatten().tolist()) for one in stages}
    known = {tuple(embedded(top, left).flatten().tolist()) for top in range(0, 49, 8) for left in range(0, 97, 8)}
    assert len(places) > 4
    assert places <= known


def test_model_patches_of_other_nodes_are_applied(nodes: ModuleType, tiny: ModuleType) -> None:
    """What other nodes set on a model, here after guidance."""
    given = inputs_of(tiny, "SD3")
    (plain,) = made(nodes, "PixelsmithGenerate", **given).args
    patched = given["model"].clone()
    patched.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * 0.5)
    (found,) = made(nodes, "PixelsmithGenerate", **given | {"model": patched}).args
    assert not torch.equal(found, plain)


def test_a_file_is_written_shown_and_resumed(nodes: ModuleType, tiny: ModuleType) -> None:
    import comfy.model_management as management
    import comfy.utils
    import folder_paths

    given = inputs_of(tiny, "SDXL", width=160, height=112, filename_prefix="maps/a", kind="tif")
    shares = list[int]()

    def stop(value: int, total: int, preview: Any, node_id: Any = None) -> None:
        shares.append(value)
        if len(shares) == 12:
            management.interrupt_current_processing()

    comfy.utils.set_progress_bar_global_hook(stop)
    with pytest.raises(management.InterruptProcessingException):
        made(nodes, "PixelsmithToFile", **given)
    assert len(shares) == 12
    folder = Path(folder_paths.get_output_directory()) / "maps"
    assert [path.name[:12] for path in folder.iterdir()] == [".pixelsmith-"]

    path, preview = made(nodes, "PixelsmithToFile", **given).args
    assert len(shares) > 12
    assert shares[-1] == 1000
    assert [Path(path)] == list(folder.iterdir())
    assert Path(path).name == "a_00001_.tif"
    of_file = ("kind", "filename_prefix")
    rest = {name: value for name, value in given.items() if name not in of_file}
    (expected,) = made(nodes, "PixelsmithGenerate", **rest).args
    assert preview.shape == expected.shape
    # A TIFF of this size is a JPEG inside.
    assert (preview - expected).abs().mean() < 0.05
    (place,) = made(nodes, "PixelsmithView", path="maps/a_00001_.tif", x=0.0, y=0.0, share=0.5, most=1024).args
    assert place.shape == (1, 56, 80, 3)
    assert torch.equal(place, preview[:, :56, :80])


def test_unsupported_inputs_give_clear_errors(nodes: ModuleType, tiny: ModuleType) -> None:
    given = inputs_of(tiny, "SDXL")
    text, options = given["positive"][0]
    with pytest.raises(RequestError, match="conditioning: area is for one whole picture"):
        made(nodes, "PixelsmithGenerate", **given | {"positive": [[text, options | {"area": (4, 4, 0, 0)}]]})
    with pytest.raises(RequestError, match="vae: the model has latents of 4 channels, the VAE of 16"):
        made(nodes, "PixelsmithGenerate", **given | {"vae": tiny.vae_of(16)})
    with pytest.raises(RequestError, match="path: expected a file in one of ComfyUI's folders"):
        made(nodes, "PixelsmithView", path="../../etc/hostname", x=0.5, y=0.5, share=1.0, most=64)


def test_previews_show_the_whole_canvas(comfy: ModuleType, nodes: ModuleType, tiny: ModuleType) -> None:
    from comfy.cli_args import LatentPreviewMethod, args

    from pixelsmith.geometry import Window

    args.preview_method = LatentPreviewMethod.Latent2RGB
    shown = sys.modules[f"{nodes.__name__}.progress"].Shown(inputs_of(tiny, "SDXL")["model"])
    patch = torch.ones(1, 4, 128, 128)
    shown.watch(patch, [Window(0, 0, 128, 128)], Size(512, 256))
    kind, picture, _ = shown._preview()
    assert kind == "JPEG"
    assert picture.size == (128, 64)
    values = np.asarray(picture).astype(float)
    assert abs(values[:32, :32] - values[40:, 40:].mean((0, 1))).mean() > 5
    assert values[:32, :32].std((0, 1)).max() == 0
    args.preview_method = LatentPreviewMethod.NoPreviews
