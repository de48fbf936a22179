from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pixelsmith import ModelError
from pixelsmith.evaluate.clip import ClipScore
from pixelsmith.evaluate.features import Features, load_features, save_judge, scaled
from pixelsmith.evaluate.judge import SUBJECTS, Judge
from pixelsmith.evaluate.metrics import Tools, load_metric
from pixelsmith.evaluate.unavailable import UnavailableError


def pictures(count: int = 3, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


class Colours(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


@pytest.fixture(params=["judge", "folder", "exported"])
def features(request: pytest.FixtureRequest, tmp_path: Path) -> Features:
    if request.param == "judge":
        return load_features("judge")
    if request.param == "folder":
        torch.manual_seed(0)
        save_judge(Judge(), tmp_path / "mine")
        return load_features(str(tmp_path / "mine"))
    torch.export.save(torch.export.export(Colours(), (torch.zeros(1, 3, 32, 32),)), tmp_path / "colours.pt2")
    return load_features(str(tmp_path / "colours.pt2"))


def test_every_network_meets_the_contract(features: Features) -> None:
    """One row per picture that does not depend on the other pictures; probabilities, if any, add up to one."""
    assert isinstance(features, Features)
    pixels = pictures()
    described = features(pixels)
    assert described.features.shape[0] == 3
    assert np.isfinite(described.features).all()
    np.testing.assert_allclose(features(pixels[1:2]).features, described.features[1:2], atol=1e-4)
    if described.probabilities is not None:
        np.testing.assert_allclose(described.probabilities.sum(1), 1, atol=1e-6)


def test_an_exported_program_is_run_unchanged(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Colours(), (torch.zeros(1, 3, 32, 32),)), tmp_path / "c.pt2")
    found = load_features(str(tmp_path / "c.pt2"))(pictures()).features
    np.testing.assert_allclose(found, pictures().mean((1, 2)) / 255, atol=1e-6)


def test_a_network_without_classes_has_no_inception_score(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Colours(), (torch.zeros(1, 3, 32, 32),)), tmp_path / "c.pt2")
    with pytest.raises(UnavailableError, match=r"c\.pt2"):
        load_metric("inception_score", Tools(load_features(str(tmp_path / "c.pt2"))))


def test_a_saved_judge_gives_the_same_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = Judge().eval()
    save_judge(judge, tmp_path, note="a test")
    described = load_features(str(tmp_path))(pictures())
    expected, _, subjects = judge(scaled(pictures(), 128) * 2 - 1)
    np.testing.assert_allclose(described.features, expected.detach(), atol=5e-3)
    assert described.probabilities is not None
    assert described.probabilities.shape == (3, len(SUBJECTS))
    np.testing.assert_allclose(described.probabilities, subjects.softmax(1).detach(), atol=5e-3)


@pytest.mark.parametrize(
    ("source", "said"),
    [("nothing", "no feature network"), ("inception:/no/such.pth", "without a download"), ("{tmp}", "judge's folder"),
     ("{tmp}/x.pt2", "torch.export")],
)  # fmt: skip
def test_unusable_networks_are_refused(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "x.pt2").write_bytes(b"no archive")
    with pytest.raises(ModelError, match=said):
        load_features(source.format(tmp=tmp_path))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP in the true classes, with random weights."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    from tests.tiny import build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), max_position_embeddings=16, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, **sizes,
    )  # fmt: skip
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **sizes)
    folder: Path = tmp_path_factory.mktemp("clip")
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder


def test_clip_score_is_the_cosine_of_the_embeddings(clip_folder: Path) -> None:
    """Compared with both towers and projections, on a picture that needs no scaling."""
    from transformers import CLIPModel

    score, model = ClipScore(str(clip_folder)), CLIPModel.from_pretrained(clip_folder).eval()
    pixels = pictures(1, 32)[0]
    tokens = score._tokenizer(["a sea"], return_tensors="pt")
    mean, spread = (
        torch.tensor(x)[:, None, None]
        for x in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    x = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / spread
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(x[None]).pooler_output)[0]
        text = model.text_projection(model.text_model(**tokens).pooler_output)[0]
    expected = 100 * max(0.0, float(torch.nn.functional.cosine_similarity(image, text, dim=0)))
    assert score(pixels, "a sea") == pytest.approx(expected, abs=1e-3)
    assert 0 <= score(pictures(1, 50)[0][:, :40], "a very long prompt " * 9) <= 100


def test_a_missing_clip_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="openai/clip"):
        ClipScore(str(tmp_path))
