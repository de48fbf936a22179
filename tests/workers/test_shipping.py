"""Pickling of work and results between processes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith.canvas import Array
from pixelsmith.engine.shipping import Kept, OfModel, Receiver, Sender, unpacked
from pixelsmith.geometry import Window
from pixelsmith.sampling.noise import NoiseField


class Network(OfModel):
    part = "network"
    statistics = ("held", 1)


def receiver() -> Receiver:
    return Receiver(lambda part, statistics: f"own {part} {statistics}", torch.device("meta"))


@given(
    st.sampled_from([torch.float32, torch.bfloat16, torch.uint8, torch.bool]), st.lists(st.integers(0, 3), max_size=4)
)
def test_tensors_are_unchanged(dtype: torch.dtype, shape: list[int]) -> None:
    values = torch.rand(shape).mul(9).to(dtype)
    found = unpacked(Sender().pack([values, values.transpose(0, -1) if shape else values]))
    assert [part.dtype for part in found] == [dtype] * 2
    assert torch.equal(found[0], values)
    assert torch.equal(found[1], values.transpose(0, -1) if shape else values)
    found[0].zero_()


def test_the_model_and_the_device_are_the_receivers() -> None:
    found = receiver().unpack(Sender().pack({"a": Network(), "at": torch.device("cuda:3")}))
    assert found == {"a": "own network ('held', 1)", "at": torch.device("meta")}


def test_canvases_stay_with_the_sender() -> None:
    sender, there = Sender(), receiver()
    canvas, other = Array(torch.zeros(1, 8, 8)), Array(torch.zeros(1, 8, 8))
    first = there.unpack(sender.pack([canvas, other, canvas]))
    assert first[0] is first[2]
    assert first[0] is not first[1]
    assert there.unpack(sender.pack(canvas)) is first[0], "in a later job too"
    assert isinstance(first[0], Kept)
    with pytest.raises(LookupError, match="its job does not carry"):
        first[0].read(Window(0, 0, 1, 1))


def test_noise_is_sent_as_its_key() -> None:
    noise, window = NoiseField(7, 2, 4, step=3), Window(5, 60, 40, 8)
    data = Sender().pack(noise)
    noise.read(window)
    assert Sender().pack(noise) == data, "whatever was read of it"
    assert torch.equal(unpacked(data).read(window), noise.read(window))


def test_values_that_cannot_be_sent_are_refused() -> None:
    with pytest.raises(TypeError, match="it cannot be sent to a worker"):
        Sender().pack(lambda: 1)
