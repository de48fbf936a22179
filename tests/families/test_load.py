from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pixelsmith.errors import ModelError, RequestError
from pixelsmith.families import find_model, load_family, read_facts
from pixelsmith.families.load import choose_device, choose_dtype
from pixelsmith.request import Compute


@pytest.mark.parametrize("name", ["no such folder", "nobody/no-such-model", "a/b/c"])
def test_an_unknown_model_is_said_so(name: str) -> None:
    with pytest.raises(ModelError, match="unknown model"):
        find_model(name)


def test_a_folder_that_is_no_model_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model in the diffusers format"):
        read_facts(tmp_path, "x")


def test_an_unsupported_pipeline_lists_the_supported_ones(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "AudioPipeline"}))
    with pytest.raises(ModelError, match=r"AudioPipeline.*StableDiffusionPipeline"):
        read_facts(tmp_path, "x")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_damaged_weights_are_said_so(tiny_model: Path, tmp_path: Path, part: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    weights = next((folder / part).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_family(folder, read_facts(folder, "x"), Compute())


def test_a_device_that_is_not_there_is_refused() -> None:
    missing = next(name for name in ("mps", "xpu", "cuda") if not getattr(torch, name).is_available())
    with pytest.raises(RequestError, match=f"device: {missing}"):
        choose_device(missing)
    assert choose_device("cpu").type == "cpu"


def test_a_dtype_is_taken_as_asked_for() -> None:
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
def test_half_precision_is_one_that_hardware_and_model_can_do(
    kind: str, has_bfloat16: bool, float16_safe: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, ask in (
        (torch.cuda, "is_bf16_supported"),
        (torch.xpu, "is_bf16_supported"),
        (torch.backends.mps, "is_macos_or_newer"),
    ):
        monkeypatch.setattr(module, ask, lambda *_, **options: has_bfloat16)
    assert choose_dtype("auto", torch.device(kind), float16_safe) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_taken_by_itself_and_gives_what_the_cpu_gives(tiny_model: Path) -> None:
    facts = read_facts(tiny_model, "tiny")
    gpu, cpu = (load_family(tiny_model, facts, Compute(device=name, dtype="float32")) for name in ("auto", "cpu"))
    assert gpu.device.type == "cuda"
    x, level = torch.randn(1, 4, 16, 16), gpu.schedule(10).levels[4]
    with torch.inference_mode():
        found, expected = (
            family.denoiser(family.encode("sea", "")[0], facts.native_size, 1.0)(x.to(family.device), level, []).cpu()
            for family in (gpu, cpu)
        )
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_a_hub_id_is_taken_from_the_local_cache_alone(tiny_model: Path, tmp_path: Path) -> None:
    """In a process of its own: the hub's library reads its settings when it is imported."""
    for name, folder in (("tiny", tiny_model), ("vae", tiny_model / "vae")):
        repository = tmp_path / "hub" / f"models--somebody--{name}"
        shutil.copytree(folder, repository / "snapshots" / "abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
    models = ["--model", "somebody/tiny", "--vae", "somebody/vae"]
    command = ["generate", "a sea", "--size", "64", "--steps", "1", *models, "--device", "cpu"]
    process = subprocess.run(
        [sys.executable, "-m", "pixelsmith", *command, "--quiet", "--output", tmp_path / "sea.png"],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert (tmp_path / "sea.png").exists()
