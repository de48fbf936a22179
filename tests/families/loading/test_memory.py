"""Where the parts of a model are kept, and what happens if memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from pixelsmith import Compute, DeviceError, Method, Request, RequestError, Size, Warned, generate
from pixelsmith.config.compute import DeviceName
from pixelsmith.engine import Serial, Work
from pixelsmith.events import Event
from pixelsmith.families import everywhere, load_family, read_facts
from pixelsmith.families.architecture import DiffusersFamily, network_of
from pixelsmith.families.loading.placing import bring, bring_beside, release_encoders
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.geometry import Window
from tests.devices import DEVICES, ON_GPU
from tests.tiny import build_stable_diffusion
from tests.zoo.all import SPECIMENS


def request_of(model: Path, **compute: Any) -> Request:
    where = Compute(**{"device": "cpu", "dtype": "float32"} | compute)
    return Request("a sea", Size(100, 90), model=str(model), method=Method(steps=2), compute=where)


def loaded(model: Path, **compute: Any) -> DiffusersFamily:
    family = load_family(model, read_facts(model, str(model)), Compute(**{"device": "cpu"} | compute))
    assert isinstance(family, DiffusersFamily)
    return family


def test_text_encoders_are_released_after_encoding_the_prompt(tiny_model: Path) -> None:
    family = loaded(tiny_model, memory="encoders-released")
    assert family.pipeline.text_encoder is not None
    family.encode("a sea", "")
    assert family.pipeline.text_encoder is None


@pytest.mark.parametrize(
    ("device", "memory"),
    [
        ("cpu", "encoders-released"),
        *(pytest.param("cuda", memory, marks=ON_GPU) for memory in ("encoders-released", "offload", "sequential")),
    ],
)
def test_the_memory_mode_does_not_change_the_picture(tiny_model: Path, device: str, memory: str) -> None:
    kept, moved = (
        generate(request_of(tiny_model, device=device, memory=mode)).pixels.astype(int) for mode in ("all", memory)
    )
    assert abs(kept - moved).max() <= (0 if device == "cpu" else 1)


def test_text_encoders_and_denoising_network_are_never_on_the_device_together(tiny_model: Path) -> None:
    """The meta device is one that can be moved to everywhere."""
    pipeline, device = loaded(tiny_model).pipeline, torch.device("meta")
    bring(pipeline, device, "encoders-released")
    assert (pipeline.text_encoder.device, pipeline.unet.device.type, pipeline.vae.device.type) == (device, "cpu", "cpu")
    release_encoders(pipeline, device)
    assert pipeline.text_encoder is None
    assert pipeline.unet.device == pipeline.vae.device == device


def test_the_error_for_a_model_larger_than_device_memory_names_alternatives(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(RequestError, match="--memory encoders-released, offload or sequential"):
        loaded(tiny_model)


def test_a_controlnet_is_offloaded_like_its_model_and_refused_without_memory_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, x = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)), torch.ones(1, 3)
    expected = network(x)
    bring_beside(network, torch.device("cpu"), "sequential")
    assert all(parameter.is_meta for parameter in network.parameters()), "nothing is there between calls"
    assert torch.equal(network(x), expected)

    whole = torch.nn.Linear(3, 4)
    bring_beside(whole, torch.device("meta"), "offload")
    assert whole.weight.is_meta

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(RequestError, match="--memory encoders-released, offload or sequential"):
        bring_beside(whole, torch.device("cpu"), "all")


def test_moving_a_half_precision_model_gives_no_warning(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    import diffusers.utils.logging as log

    log.enable_propagation()
    try:
        loaded(tiny_model, dtype="float16")
    finally:
        log.disable_propagation()
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("memory", ["offload", "sequential"])
def test_offloading_is_refused_without_an_accelerator(tiny_model: Path, memory: str) -> None:
    with pytest.raises(RequestError, match=f"memory: {memory}"):
        loaded(tiny_model, memory=memory)


def test_channels_last_gives_the_same_picture_up_to_rounding(tiny_model: Path) -> None:
    assert loaded(tiny_model, channels_last=True).pipeline.unet.conv_in.weight.is_contiguous(
        memory_format=torch.channels_last
    )
    usual, other = (generate(request_of(tiny_model, channels_last=value)).pixels.astype(int) for value in (False, True))
    assert abs(usual - other).max() <= 2


@pytest.mark.parametrize("name", ["sdxl", "pixart-sigma"])
@pytest.mark.parametrize("upcast", [True, False])
def test_the_autoencoder_of_sdxl_is_float32_where_float16_overflows(tmp_path: Path, name: str, upcast: bool) -> None:
    """PixArt-Σ comes with the same one."""
    with quiet():
        pipeline = SPECIMENS[name].build()
        pipeline.vae.register_to_config(force_upcast=upcast)
        pipeline.save_pretrained(tmp_path)
    found = loaded(tmp_path, dtype="float16").pipeline
    assert network_of(found).dtype == torch.float16
    assert found.vae.dtype == (torch.float32 if upcast else torch.float16)


def test_only_weights_of_2d_convolutions_become_channels_last(tmp_path: Path) -> None:
    """Qwen-Image's autoencoder is one for video: its convolutions have an axis more."""
    with quiet():
        SPECIMENS["qwen-image"].save(tmp_path)
    vae = loaded(tmp_path, channels_last=True).pipeline.vae
    assert any(parameter.ndim == 5 for parameter in vae.parameters())
    images = [parameter for parameter in vae.parameters() if parameter.ndim == 4]
    assert all(parameter.is_contiguous(memory_format=torch.channels_last) for parameter in images)


def test_an_overflowing_network_raises_an_error_instead_of_a_black_picture(tiny_model: Path, tmp_path: Path) -> None:
    with quiet():
        pipeline = build_stable_diffusion()
        pipeline.unet.conv_in.weight.data *= 1e6
        pipeline.save_pretrained(tmp_path)
    request = request_of(tmp_path)
    assert generate(request).pixels.any()
    with pytest.raises(DeviceError, match="--dtype bfloat16 or float32"):
        generate(replace(request, compute=Compute("cpu", "float16")))


@contextmanager
def said_to_hold(patches: int) -> Iterator[None]:
    """While open, more patches in a batch are said to be too many."""
    from diffusers import UNet2DConditionModel

    forward = UNet2DConditionModel.forward

    def with_little_room(self: Any, sample: torch.Tensor, *args: Any, **options: Any) -> Any:
        if len(sample) > patches:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, sample, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UNet2DConditionModel, "forward", with_little_room)
        yield


@contextmanager
def holding(run: Callable[[], object]) -> Iterator[None]:
    """While open, the GPU has memory for this and not much more."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run()
    most, there_is = torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.2 * most / there_is)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_batches_that_run_out_of_memory_are_made_smaller_with_one_warning(tiny_model: Path) -> None:
    whole = generate(request_of(tiny_model, batch_size=4)).pixels
    heard: list[Event] = []
    with said_to_hold(2):
        found = generate(request_of(tiny_model, batch_size=4), observer=heard.append).pixels
    assert [event.message for event in heard if isinstance(event, Warned)] == [
        "the device has no memory for so many patches at once; going on with 2"
    ]
    assert abs(found.astype(int) - whole.astype(int)).max() <= 2


@pytest.mark.parametrize("device", DEVICES)
@torch.inference_mode()
def test_halving_a_batch_does_not_change_the_picture(tiny_model: Path, device: str) -> None:
    family, count = loaded(tiny_model, device=device), 16 if device == "cpu" else 4096
    denoiser = family.denoiser(everywhere(family.encode("a sea", "")[0]), Size(64, 64), 1.0)
    level = family.schedule(10).levels[4]
    x, windows = torch.randn(count, 4, 16, 16, device=family.device), [Window(0, 0, 16, 16)] * count
    whole, heard = denoiser(x, level, windows), list[int]()
    few = count // 4
    with said_to_hold(few) if device == "cpu" else holding(lambda: denoiser(x[:few], level, windows[:few])):
        parts = list[torch.Tensor]()
        work: Work[list[int], torch.Tensor] = Work(
            kind="one patch",
            groups=[range(count)],
            read=list,
            compute=lambda indices: denoiser(x[indices], level, [windows[i] for i in indices]),
            write=lambda group, values: parts.append(values),
            place=lambda group: "all",
        )
        Serial(lambda kind, most: heard.append(most)).run(work, lambda group: None)
    assert heard[:2] == [count // 2, few]
    torch.testing.assert_close(parts[0], whole.cpu(), atol=1e-2, rtol=1e-2)


@pytest.mark.filterwarnings("ignore:TensorFloat32")  # that a GPU multiplies float32 faster with fewer bits
@pytest.mark.parametrize("device", DEVICES)
def test_a_run_compiles_one_graph_for_the_base_and_one_for_all_stages(tmp_path: Path, device: DeviceName) -> None:
    """However many patches a step leaves over for its last batch. A transformer is traced sooner than a U-Net."""
    with quiet():
        model = SPECIMENS["pixart-sigma"].save(tmp_path)
    # On the CPU graphs run as they are: to generate code takes longer than all tests.
    counter = CompileCounterWithBackend("eager" if device == "cpu" else "inductor")
    stages, method = (Size(100, 90), Size(150, 160)), Method(steps=2, coverage="random")
    compute = Compute(device, "float32", batch_size=4)
    request = Request("a sea", stages[-1], model=str(model), cascade=stages, method=method, compute=compute)
    plain = generate(request).pixels.astype(int)
    torch._dynamo.reset()
    with torch.compiler.set_stance(force_backend=counter):
        compiled = generate(replace(request, compute=replace(compute, compile=True))).pixels.astype(int)
    assert counter.frame_count == 2
    assert abs(compiled - plain).max() <= 4
