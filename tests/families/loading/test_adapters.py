"""LoRAs that change text encoders besides the network, or alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from pixelsmith import Lora, ModelError, Parts
from pixelsmith.families.loading.quiet import quiet
from tests.families.test_parts import loaded, queries, save_lora
from tests.zoo.all import SPECIMENS

QUERY = "encoder.layers.0.self_attn.q_proj.weight"


def save_encoder_lora(pipeline: Any, folder: Path) -> Path:
    """Random weights of rank 2 on the queries of the first text encoder."""
    encoder = pipeline.text_encoder
    encoder.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj"], init_lora_weights=False))
    torch.manual_seed(1)
    state = {name: torch.randn_like(value) for name, value in get_peft_model_state_dict(encoder).items()}
    pipeline.save_lora_weights(folder, text_encoder_lora_layers=state)
    encoder.delete_adapter("default")
    return folder / "pytorch_lora_weights.safetensors"


def encoder_queries(pipeline: Any) -> torch.Tensor:
    state = pipeline.text_encoder.state_dict()
    found: torch.Tensor = next(value for name, value in state.items() if name.endswith(QUERY))
    return found


@pytest.mark.parametrize("name", ["epsilon", "sdxl", "sd3", "flux-dev"])
def test_a_lora_changes_the_text_encoder_and_stays_when_it_is_fused(name: str, tmp_path: Path) -> None:
    with quiet():
        pipeline = SPECIMENS[name].build()
        pipeline.save_pretrained(tmp_path / "model")
        of_encoder = save_encoder_lora(pipeline, tmp_path / "encoder")
        of_network = save_lora(SPECIMENS[name].build(), tmp_path / "network")
    plain = loaded(tmp_path / "model", Parts())
    both = loaded(tmp_path / "model", Parts(loras=(Lora(str(of_network)), Lora(str(of_encoder), 0.5))))
    alone = loaded(tmp_path / "model", Parts(loras=(Lora(str(of_encoder)),)))
    change = encoder_queries(alone) - encoder_queries(plain)
    assert change.abs().max() > 0.1
    torch.testing.assert_close(encoder_queries(both) - encoder_queries(plain), change / 2, atol=1e-5, rtol=1e-5)
    assert (queries(both) - queries(plain)).abs().max() > 0.1
    assert not both.get_list_adapters()
    with pytest.raises(ModelError, match=r"no weights for the transformer or unet .*leave out :stages"):
        loaded(tmp_path / "model", Parts(loras=(Lora(str(of_encoder), stages_only=True),)))
