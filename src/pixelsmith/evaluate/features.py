"""Feature networks, for distances between sets of pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pixelsmith.errors import MissingPartError, ModelError
from pixelsmith.evaluate.exported import Exported
from pixelsmith.evaluate.judge import FEATURES, SIDE, STYLES, SUBJECTS, Judge
from pixelsmith.system.durable import read_object, read_whole
from pixelsmith.system.places import given_place

JUDGE = "judge"
INCEPTION = "inception:"
OFFLINE = (
    "without a download there are 'judge' (comes with Pixelsmith, for the embedded model's world) and any .pt2 file"
)
_BATCH = 32


@dataclass(frozen=True, eq=False)
class Described:
    """The output of a network for n pictures: ``features`` (n, d), and ``probabilities`` (n, classes) if any."""

    features: NDArray[np.float64]
    probabilities: NDArray[np.float64] | None = None


@runtime_checkable
class Features(Protocol):
    """A network that computes features of pictures."""

    @property
    def name(self) -> str:
        """The name in tables."""
        ...

    @property
    def side(self) -> int:
        """The side of its input in pixels; larger pictures are scaled down and lose their detail."""
        ...

    def __call__(self, pixels: NDArray[np.uint8]) -> Described:
        """Compute features of pictures (n, h, w, 3) of any size."""
        ...


def load_features(source: str) -> Features:
    """The network of this name: ``judge``, a folder in the judge's format, ``inception:FILE`` or a ``.pt2`` file.

    ``inception:FILE``: the weights of torch-fidelity, for the FID as published. A ``.pt2`` file is a program of
    ``torch.export`` that takes a picture (1, 3, s, s) in 0..1 and returns features (1, d).
    Raises ``ModelError``, or ``MissingPartError`` where a library is not there.
    """
    if source.startswith(INCEPTION):
        return _Inception(given_place(source.removeprefix(INCEPTION)))
    path = Path(str(files("pixelsmith.embedded"))) / "judge" if source == JUDGE else given_place(source)
    if path.is_dir():
        return JudgeFeatures(path)
    if path.is_file() and path.suffix == ".pt2":
        return _Exported(path)
    raise ModelError(f"features: {source!r} is no feature network; give judge, a folder, inception:FILE or a .pt2 file")


def save_judge(judge: Judge, folder: Path, **facts: Any) -> None:
    """Save a judge as a folder, in float16, with its styles, its subjects and ``facts`` about it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half() if value.is_floating_point() else value for name, value in judge.state_dict().items()}
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    config = {"side": SIDE, "features": FEATURES, "styles": list(STYLES), "subjects": SUBJECTS, **facts}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def load_judge(folder: Path) -> Judge:
    """Load a folder of ``save_judge``, for inference. Raises ``ModelError``."""
    judge = Judge()
    try:
        config = read_object(read_whole(folder / "config.json"))
        if [config["styles"], config["subjects"]] != [list(STYLES), SUBJECTS]:
            raise ValueError("its styles or subjects differ")
        weights = load_file(folder / "model.safetensors")
        judge.load_state_dict({name: value.float() for name, value in weights.items()})
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"features: {folder} is not a judge's folder ({error})") from error
    return judge.eval()


class JudgeFeatures:
    """The features of a judge and the probabilities of its subjects."""

    side = SIDE

    def __init__(self, folder: Path) -> None:
        self.name = JUDGE if folder.name == JUDGE else str(folder)
        self._judge = load_judge(folder)

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> Described:
        """Features (n, 128) and probabilities (n, 14)."""
        found = [self._judge(scaled(batch, SIDE) * 2 - 1) for batch in batches(pixels)]
        features, _, subjects = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Described(features.double().numpy(), subjects.softmax(1).double().numpy())


class _Exported:
    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._network = Exported(path)
        self.side = self._network.side

    def __call__(self, pixels: NDArray[np.uint8]) -> Described:
        found = [self._network(scaled(pixels[i : i + 1], self.side)) for i in range(len(pixels))]
        if any(not isinstance(row, Tensor) or row.ndim != 2 or len(row) != 1 for row in found):
            raise ModelError(f"features: {self.name}: expected a program that returns features (1, d)")
        return Described(torch.cat(found).double().numpy())


class _Inception:
    """Inception-v3 as used for the FID (torch-fidelity's 2048 features and unbiased logits)."""

    side = 299

    def __init__(self, weights: Path) -> None:
        self.name = "Inception"
        if not weights.is_file():
            raise ModelError(
                f"features: there is no file {weights}; Inception's weights are "
                "'weights-inception-2015-12-05-6726825d.pth' among the releases of torch-fidelity; " + OFFLINE
            )
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except (ImportError, RuntimeError) as error:
            # A torchvision built for another version of PyTorch raises RuntimeError.
            raise MissingPartError(
                "features: Inception needs torch-fidelity and a torchvision that fits torch; "
                f"run: pip install 'pixelsmith[inception]'; {OFFLINE}"
            ) from error
        self._network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
        )

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> Described:
        found = [self._network(torch.from_numpy(batch).permute(0, 3, 1, 2)) for batch in batches(pixels)]
        features, logits = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Described(features.double().numpy(), logits.softmax(1).double().numpy())


def batches(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Pictures (n, h, w, 3) in batches that fit into memory."""
    return [np.ascontiguousarray(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)]


def scaled(pixels: NDArray[np.uint8], side: int) -> Tensor:
    """Pictures (n, h, w, 3) as (n, 3, side, side) in 0..1; for integer factors, block means."""
    x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
    height, width = x.shape[-2:]
    if height == width and height % side == 0:
        return F.avg_pool2d(x, height // side)
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
