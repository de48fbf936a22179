"""The contract of captioners: the embedded model's own, and tiny image-to-text models in the format of transformers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pixelsmith.config.compute import Compute
from pixelsmith.config.parts import Parts
from pixelsmith.config.request import EMBEDDED
from pixelsmith.families import Captioner, find_model, load_captioner
from tests.zoo.captioners import CAPTIONERS


@pytest.fixture(scope="module", params=["embedded", *CAPTIONERS])
def captioner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    name = request.param
    path = None if name == "embedded" else CAPTIONERS[name](tmp_path_factory.mktemp("captioner") / name)
    parts = Parts(captioner=None if path is None else str(path))
    return load_captioner(find_model(EMBEDDED), Compute("cpu"), torch.float32, parts)


def pictures(side: int = 64) -> Tensor:
    """Fine waves of sea, a green place and a white one, (3, 3, side, side)."""
    noise = torch.randn(3, 1, side, side, generator=torch.Generator().manual_seed(0))
    colours = torch.tensor([[5.0, 20.0, 60.0], [40.0, 80.0, 30.0], [240.0, 240.0, 245.0]])
    return (colours[:, :, None, None] + 6 * noise).clamp(0, 255).to(torch.uint8)


def test_each_picture_has_a_caption_of_one_line(captioner: Captioner) -> None:
    found = captioner(pictures())
    assert len(found) == 3
    assert any(found)
    for text in found:
        assert text == " ".join(text.split())
        assert text.isprintable()
        assert not set(text) & set("()+")


def test_a_caption_depends_on_its_picture_only(captioner: Captioner) -> None:
    together = captioner(pictures())
    assert together == [captioner(picture[None])[0] for picture in pictures()]
    assert together == captioner(pictures())
    assert len(set(together)) > 1


@pytest.mark.parametrize("side", [16, 48, 256])
def test_pictures_may_have_any_size(captioner: Captioner, side: int) -> None:
    assert len(captioner(pictures(side)[:, :, : side // 2])) == 3
