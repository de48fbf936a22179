from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pixelsmith.config.compute import Compute
from pixelsmith.config.parts import Lora, Parts
from pixelsmith.errors import ModelError, RequestError
from pixelsmith.families import everywhere, find_model, load_family, model_files, read_facts
from pixelsmith.families.loading.loader import choose_device, choose_dtype
from pixelsmith.pixels.settings_inside import read_settings
from tests.commands import commands
from tests.families.test_parts import save_lora
from tests.tiny import build_stable_diffusion


@pytest.mark.parametrize("name", ["no such folder", "nobody/no-such-model", "a/b/c"])
def test_an_unknown_model_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="unknown model"):
        find_model(name)


def test_a_folder_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model in the diffusers format"):
        read_facts(tmp_path, "x")


def test_the_error_for_an_unsupported_pipeline_lists_the_supported_ones(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "AudioPipeline"}))
    with pytest.raises(ModelError, match=r"AudioPipeline.*StableDiffusionPipeline"):
        read_facts(tmp_path, "x")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_damaged_weights_are_refused(tiny_model: Path, tmp_path: Path, part: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    weights = next((folder / part).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"it is no complete \.safetensors file"):
        load_family(folder, read_facts(folder, "x"), Compute())


def test_an_unavailable_device_is_refused() -> None:
    missing = next(name for name in ("mps", "xpu", "cuda") if not getattr(torch, name).is_available())
    with pytest.raises(RequestError, match=f"device: {missing}"):
        choose_device(missing)
    assert choose_device("cpu").type == "cpu"


def test_rocm_devices_are_named_cuda_as_in_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert choose_device("rocm").type == choose_device("auto").type == "cuda"
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(RequestError, match=r"rocm is not available here; expected auto or one of cuda"):
        choose_device("rocm")


def test_a_requested_dtype_is_used() -> None:
    assert choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    assert choose_dtype("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(
    ("kind", "has_bfloat16", "float16_safe", "expected"),
    [
        ("cuda", True, False, torch.bfloat16),
        ("cuda", False, True, torch.float16),
        ("cuda", False, False, torch.float32),
        ("xpu", True, False, torch.bfloat16),
        ("mps", True, True, torch.bfloat16),
        ("mps", False, False, torch.float32),
    ],
)
def test_the_half_precision_dtype_is_supported_by_hardware_and_model(
    kind: str, has_bfloat16: bool, float16_safe: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, ask in (
        (torch.cuda, "is_bf16_supported"),
        (torch.xpu, "is_bf16_supported"),
        (torch.backends.mps, "is_macos_or_newer"),
    ):
        monkeypatch.setattr(module, ask, lambda *_, **options: has_bfloat16)
    assert choose_dtype("auto", torch.device(kind), float16_safe) == expected


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel"}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "AMD EPYC"}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "Intel"}, torch.float32),
        ({"amx_bf16": False, "avx512_bf16": False, "cpu_name": "AMD EPYC"}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_a_cpu_uses_bfloat16_if_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, object], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert choose_dtype("auto", torch.device("cpu")) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_chosen_automatically_and_agrees_with_the_cpu(tiny_model: Path) -> None:
    facts = read_facts(tiny_model, "tiny")
    gpu, cpu = (load_family(tiny_model, facts, Compute(device=name, dtype="float32")) for name in ("auto", "cpu"))
    assert gpu.device.type == "cuda"
    x, level, window = torch.randn(1, 4, 16, 16), gpu.schedule(10).levels[4], facts.patch.window
    with torch.inference_mode():
        found, expected = (
            denoiser(x.to(family.device), level, [window]).cpu()
            for family, denoiser in (
                (family, family.denoiser(everywhere(family.encode("sea", "")[0]), facts.native_size, 1.0))
                for family in (gpu, cpu)
            )
        )
    # Convolutions multiply in TF32 there, with 10 bits.
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)


FIRST, SECOND = "a" * 40, "b" * 40
"""Commits."""


def test_a_cached_hub_model_is_loaded_without_a_connection(tiny_model: Path, tmp_path: Path) -> None:
    """In a process of its own: the hub's library reads its settings when it is imported."""
    lora = save_lora(build_stable_diffusion(), tmp_path / "lora").parent
    (tmp_path / "word").mkdir()
    save_file({"emb_params": torch.randn(1, 16)}, tmp_path / "word" / "sea.safetensors")
    for name, folder in (
        ("tiny", tiny_model),
        ("vae", tiny_model / "vae"),
        ("style", lora),
        ("word", tmp_path / "word"),
    ):
        publish(tmp_path / "hub", name, folder, FIRST)
    models = ["--model", "somebody/tiny", "--vae", "somebody/vae", "--lora", "somebody/style:0.5"]
    models += ["--textual-inversion", "somebody/word"]
    command = ["generate", "a sea", "--size", "64", "--steps", "1", *models, "--device", "cpu", "--quiet"]
    with commands({"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}) as offline:
        assert offline.run(tmp_path, *command, "--run-dir", "run", "--output", "sea.png") == (0, "")
        request = read_settings(tmp_path / "sea.png")["request"]
        assert (request["model"], request["parts"]["vae"]) == (f"somebody/tiny@{FIRST}", f"somebody/vae@{FIRST}")
        assert request["parts"]["loras"] == [asdict(Lora(f"somebody/style@{FIRST}", 0.5))]
        assert request["parts"]["textual_inversions"] == [f"somebody/word@{FIRST}"]
        # Another commit is the newest now; the run goes on with its own.
        publish(tmp_path / "hub", "tiny", tiny_model / "vae", SECOND)
        (tmp_path / "sea.png").unlink()
        assert offline.run(tmp_path, "resume", "run", "--quiet") == (0, "")
        assert (tmp_path / "sea.png").exists()


def publish(hub: Path, name: str, folder: Path, commit: str) -> None:
    """A repository as the hub's library keeps it."""
    repository = hub / f"models--somebody--{name}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)


def test_the_files_of_a_model_are_those_that_are_loaded(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    own = model_files(folder, Parts())
    assert {path.name for path in own} >= {"model_index.json", "diffusion_pytorch_model.safetensors", "tokenizer.json"}
    others = (
        "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
        "whole.safetensors", ".git/config.json", "unet/diffusion_pytorch_model.bin", "README.md",
    )  # fmt: skip
    for name in others:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    assert model_files(folder, Parts()) == own
    half = {path.relative_to(folder).as_posix() for path in model_files(folder, Parts(variant="fp16"))}
    assert half >= set(others[:2])
    assert "unet/diffusion_pytorch_model.safetensors" not in half
    assert "vae/diffusion_pytorch_model.safetensors" in half, "a part without the variant is read as it is"
