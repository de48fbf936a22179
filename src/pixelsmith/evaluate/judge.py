"""The judge: a small classifier of styles and subjects, trained on real pictures of the Earth (``training/judge.py``).

It is a feature network that comes with the package, for distances between sets of pictures without a download. It is
for the subjects and styles of the embedded model only.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

SIDE = 128
"""The side of its input in pixels."""
FEATURES = 128
STYLES = ("satellite", "watercolor", "night", "landscape")
SUBJECTS = {
    "islands": "island", "lakes": "lakes", "roads": "roads", "coast": "coast", "lights": "night photo",
    "ocean": "ocean", "snow": "snow", "ice": "ice sheet", "desert": "desert", "mountains": "mountains",
    "forest": "forest", "steppe": "steppe", "tundra": "tundra", "photo": "landscape photo",
}  # fmt: skip
"""The subject of a caption is the first of these words that it contains."""


class Judge(nn.Module):
    """A convolutional network of 0.3 million parameters: pictures (b, 3, 128, 128) in -1..1."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, FEATURES)
        self.body = nn.Sequential(
            *(
                layer
                for before, after in pairwise(widths)
                for layer in (nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU())
            ),
            nn.Conv2d(FEATURES, FEATURES, 3, 1, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.style, self.subject = nn.Linear(FEATURES, len(STYLES)), nn.Linear(FEATURES, len(SUBJECTS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (b, 128), and the logits of styles (b, 4) and subjects (b, 14)."""
        features = self.body(x)
        return features, self.style(features), self.subject(features)
