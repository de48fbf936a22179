"""The memory that networks are estimated to need."""

from __future__ import annotations

from pixelsmith.families.footprint import controlnet_values, network_values

FLUX = {"num_attention_heads": 24, "attention_head_dim": 128, "in_channels": 64}
THIRD = {"num_attention_heads": 24, "attention_head_dim": 64, "in_channels": 16, "patch_size": 2}


def test_the_memory_estimate_of_a_controlnet_counts_its_residuals() -> None:
    assert controlnet_values({"block_out_channels": [320, 640, 1280]}, 4) == 8 * 320
    assert controlnet_values({**FLUX, "num_layers": 5, "num_single_layers": 10}, 16) == 15 * 3072 // 4
    assert controlnet_values({**FLUX, "num_layers": 5, "num_single_layers": None}, 16) == 5 * 3072 // 4
    assert controlnet_values({**THIRD, "num_layers": 12}, 16) == 12 * 1536 // 4


def test_the_memory_estimate_of_a_transformer_is_per_latent() -> None:
    assert network_values(FLUX, 16) == 24 * 3072 // 4
    assert network_values(THIRD, 16) == 24 * 1536 // 4
    assert network_values({**THIRD, "patch_size": 1}, 16) == 24 * 1536
