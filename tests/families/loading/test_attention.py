"""Attention backends: what a backend changes, and which are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelsmith import Compute, Method, Request, RequestError, Size, generate
from pixelsmith.families.architecture import network_of
from pixelsmith.families.loading.attention import backends, set_attention
from pixelsmith.families.loading.quiet import quiet
from tests.zoo.all import SPECIMENS

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def network(name: str) -> Any:
    with quiet():
        return network_of(SPECIMENS[name].build())


def backends_of(network: Any) -> set[str | None]:
    processors: list[Any] = [getattr(module, "processor", None) for module in network.modules()]
    return {processor._attention_backend for processor in processors if hasattr(processor, "_attention_backend")}


def test_an_attention_backend_is_set_for_one_network_only() -> None:
    chosen, other = network("z-image"), network("z-image")
    set_attention(chosen, "_native_math", CPU)
    assert backends_of(chosen) == {"_native_math"}
    assert backends_of(other) == {None}
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    assert _AttentionBackendRegistry.get_active_backend()[0] == "native"


def test_another_attention_backend_gives_the_same_picture_up_to_rounding(tmp_path: Path) -> None:
    with quiet():
        SPECIMENS["z-image"].save(tmp_path)
    compute = Compute(device="cpu", dtype="float32")
    request = Request("a sea", Size(64, 48), model=str(tmp_path), method=Method(steps=2), compute=compute)
    other = replace(request, compute=replace(compute, attention="_native_math"))
    usual, chosen = (generate(one).pixels.astype(int) for one in (request, other))
    assert abs(usual - chosen).max() <= 1


@pytest.mark.parametrize(
    ("name", "backend", "device", "said"),
    [
        ("z-image", "flashy", CPU, "expected one of .*flash.*, got 'flashy'"),
        ("z-image", "flash_hub", CUDA, "expected one of"),
        ("z-image", "sage", CPU, "sage needs a GPU; on the CPU expected one of native, _native_math"),
        ("pixart-sigma", "_native_math", CPU, "does not support _native_math; expected one of native, xformers"),
    ],
)
def test_the_error_for_an_unusable_backend_lists_the_usable_ones(
    name: str, backend: str, device: torch.device, said: str
) -> None:
    with pytest.raises(RequestError, match=f"attention: .*{said}"):
        set_attention(network(name), backend, device)


def test_a_backend_that_is_not_installed_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.models.attention_dispatch._CAN_USE_FLASH_ATTN", False)
    with pytest.raises(RequestError, match=r"attention: flash cannot be used here: .*flash-attn"):
        set_attention(network("z-image"), "flash", CUDA)


def test_no_backend_downloads_code() -> None:
    assert {"native", "flash", "sage", "xformers"} <= set(backends())
    assert not [name for name in backends() if "hub" in name]
