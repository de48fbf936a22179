"""A picture through diffusers, and through a block of Modular Diffusers, with the model that comes with Pixelsmith.

python integrations/diffusers/example.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ModularPipeline

from pixelsmith import PixelsmithPipeline


def main(folder: Path = Path("output"), side: int = 512) -> None:
    """Write two pictures of ``side`` pixels; the second one is the first one, enlarged to twice that."""
    folder.mkdir(parents=True, exist_ok=True)
    pipe = PixelsmithPipeline.from_pretrained("embedded")
    generator = torch.Generator().manual_seed(7)
    base = pipe("night city lights", side, side, preset="fast", generator=generator).images[0]
    base.save(folder / "city.png")
    block = ModularPipeline.from_pretrained(Path(__file__).parent, trust_remote_code=True)
    block.update_components(pixelsmith=pipe)
    (larger,) = block(
        prompt="night city lights",
        images=[base],
        width=2 * side,
        height=2 * side,
        preset="fast",
        generator=generator,
        output="images",
    )
    larger.save(folder / "city-larger.png")


if __name__ == "__main__":
    main()
