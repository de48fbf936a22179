"""Families with a transformer."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from torch import Tensor
from transformers import Qwen3ForCausalLM, Qwen3Model

from tests.tiny import build_autoencoder
from tests.zoo.specimen import Specimen, Stock, usual_call
from tests.zoo.text import WIDTH, clip, encoders, gemma, qwen3, qwen_vl, t5

NATIVE = 64
"""Pixels, where a family's own size is a constant."""


def autoencoder_16(levels: int = 3) -> AutoencoderKL:
    """16 channels with a shift and without the convolutions around the latents, as in Stable Diffusion 3 and Flux."""
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, *[16] * (levels - 1)),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=16,
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def seeded(kind: Any, spread: float | None = None, **config: Any) -> Any:
    """A network with the weights of seed 0, or normal ones of this spread where some of its layers begin empty."""
    torch.manual_seed(0)
    network = kind(**config)
    if spread is not None:
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=spread)
    return network


TWO_HEADS: dict[str, Any] = {"num_layers": 1, "num_attention_heads": 2}
JOINT = TWO_HEADS | {"attention_head_dim": 16, "joint_attention_dim": WIDTH, "axes_dims_rope": (4, 4, 8)}
"""One block that sees tokens of text and image together, by their positions."""


def build_3(with_t5: bool = True) -> StableDiffusion3Pipeline:
    transformer = seeded(
        SD3Transformer2DModel,
        sample_size=16,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=16,
        pos_embed_max_size=24,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    third = t5(2 * WIDTH) if with_t5 else (None, None)
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder_16(),
        **encoders(clip(projection=16), clip(projection=16, seed=1), third),
    )


def build_flux(dev: bool) -> FluxPipeline:
    transformer = seeded(
        FluxTransformer2DModel,
        in_channels=64,
        num_single_layers=1,
        pooled_projection_dim=WIDTH,
        guidance_embeds=dev,
        **JOINT,
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev),
        vae=autoencoder_16(),
        transformer=transformer,
        **encoders(clip(), t5()),
    )


def build_flux_dpm() -> FluxPipeline:
    """With a solver that was put in place of its scheduler."""
    pipeline = build_flux(dev=True)
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, **flow)
    return pipeline


def build_qwen() -> QwenImagePipeline:
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        vae=seeded(
            AutoencoderKLQwenImage,
            base_dim=8,
            z_dim=16,
            dim_mult=[1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True],
        ),
        transformer=seeded(QwenImageTransformer2DModel, **JOINT),
        **encoders(qwen_vl()),
    )


def build_z(shift: float = 3.0) -> ZImagePipeline:
    transformer = seeded(
        ZImageTransformer2DModel, spread=0.1, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2,
        cap_feat_dim=WIDTH, axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    return ZImagePipeline(
        scheduler=scheduler, vae=autoencoder_16(), transformer=transformer, **encoders(qwen3(Qwen3Model))
    )


def build_sana(scheduler: Any) -> SanaPipeline:
    transformer = seeded(
        SanaTransformer2DModel,
        in_channels=8,
        out_channels=8,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=WIDTH,
        sample_size=8,
        **TWO_HEADS,
    )
    ends: dict[str, Any] = {}
    for end in ("encoder", "decoder"):
        ends |= {
            f"{end}_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
            f"{end}_block_out_channels": (8, 8, 16, 16),
            f"{end}_layers_per_block": (1, 1, 1, 1),
            f"{end}_qkv_multiscales": ((), (), (5,), (5,)),
        }
    vae = seeded(AutoencoderDC, in_channels=3, latent_channels=8, attention_head_dim=8, scaling_factor=0.41407, **ends)
    return SanaPipeline(vae=vae, transformer=transformer, scheduler=scheduler, **encoders(gemma()))


def build_pixart() -> PixArtSigmaPipeline:
    transformer = seeded(
        PixArtTransformer2DModel,
        attention_head_dim=8,
        cross_attention_dim=16,
        sample_size=16,
        caption_channels=WIDTH,
        interpolation_scale=1,
        use_additional_conditions=False,
        **TWO_HEADS,
    )
    scheduler = DPMSolverMultistepScheduler(**PIXART_BETAS)
    return PixArtSigmaPipeline(vae=build_autoencoder(), transformer=transformer, scheduler=scheduler, **encoders(t5()))


def build_flux_2() -> Flux2KleinPipeline:
    vae = seeded(
        AutoencoderKLFlux2,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
    )
    torch.nn.init.uniform_(vae.bn.running_mean, -0.5, 0.5)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
    joint = {"joint_attention_dim": 3 * WIDTH, "axes_dims_rope": (4, 4, 4, 4)}
    transformer = seeded(
        Flux2Transformer2DModel,
        in_channels=16,
        num_single_layers=1,
        timestep_guidance_channels=16,
        guidance_embeds=False,
        **(JOINT | joint),
    )
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        transformer=transformer,
        **encoders(qwen3(Qwen3ForCausalLM, layers=28)),
    )


def build_chroma() -> ChromaPipeline:
    transformer = seeded(
        ChromaTransformer2DModel,
        in_channels=64,
        num_single_layers=1,
        approximator_num_channels=8,
        approximator_hidden_dim=16,
        approximator_layers=1,
        **JOINT,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return ChromaPipeline(scheduler=scheduler, vae=autoencoder_16(), transformer=transformer, **encoders(t5()))


def build_lumina() -> Lumina2Pipeline:
    transformer = seeded(
        Lumina2Transformer2DModel, spread=0.1, sample_size=8, hidden_size=24, num_layers=1, num_refiner_layers=1,
        num_attention_heads=1, num_kv_heads=1, multiple_of=16, axes_dim_rope=(8, 8, 8), axes_lens=(300, 64, 64),
        cap_feat_dim=WIDTH,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=6.0)
    return Lumina2Pipeline(
        transformer=transformer, scheduler=scheduler, vae=autoencoder_16(levels=4), **encoders(gemma())
    )


PIXART_BETAS = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
FLOW_DPM = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}


def call_flux(pipeline: Any, stock: Stock) -> Tensor:
    """Latents go in and come out as tokens; schnell was made with 256 tokens of text."""
    height, width = stock.size
    images: Tensor = pipeline(
        stock.prompt, height=height, width=width, num_inference_steps=stock.steps, guidance_scale=stock.scale,
        max_sequence_length=512 if pipeline.transformer.config.guidance_embeds else 256,
        latents=_packed(pipeline, stock), generator=stock.generator, output_type=stock.output,
    ).images  # fmt: skip
    return _unpacked(pipeline, images, stock)


def call_qwen(pipeline: Any, stock: Stock) -> Tensor:
    """It guides where there is a negative prompt only; those who have none give a space."""
    height, width = stock.size
    images: Tensor = pipeline(
        stock.prompt, stock.negative or " ", true_cfg_scale=stock.scale, height=height, width=width,
        num_inference_steps=stock.steps, output_type=stock.output,
        latents=_packed(pipeline, stock), generator=stock.generator,
    ).images  # fmt: skip
    unpacked = _unpacked(pipeline, images, stock)
    return unpacked[:, :, 0] if unpacked.ndim == 5 else unpacked


def _packed(pipeline: Any, stock: Stock) -> Tensor | None:
    found: Tensor | None = None if stock.noise is None else pipeline._pack_latents(stock.noise, *stock.noise.shape)
    return found


def _unpacked(pipeline: Any, images: Tensor, stock: Stock) -> Tensor:
    if stock.output != "latent":
        return images
    found: Tensor = pipeline._unpack_latents(images, *stock.size, pipeline.vae_scale_factor)
    return found


def call_flux_2(pipeline: Any, stock: Stock) -> Tensor:
    """Noise comes in as normalised patches; what it calls latents is what its autoencoder decodes."""
    height, width = stock.size
    negative = None if stock.negative is None else pipeline.encode_prompt(stock.negative)[0]
    found: Tensor = pipeline(
        prompt=stock.prompt, height=height, width=width, num_inference_steps=stock.steps, guidance_scale=stock.scale,
        negative_prompt_embeds=negative, latents=stock.noise, generator=stock.generator, output_type=stock.output,
    ).images  # fmt: skip
    if stock.output != "latent":
        return found
    layer = pipeline.vae.bn
    std = (layer.running_var + pipeline.vae.config.batch_norm_eps).sqrt().view(1, -1, 1, 1)
    patches: Tensor = pipeline._patchify_latents(found)
    normalised: Tensor = (patches - layer.running_mean.view(1, -1, 1, 1)) / std
    return normalised


def call_chroma(pipeline: Any, stock: Stock) -> Tensor:
    return _unpacked(pipeline, usual_call(pipeline, stock, latents=_packed(pipeline, stock)), stock)


def call_z(pipeline: Any, stock: Stock) -> Tensor:
    """Its guidance scale counts from 0."""
    return usual_call(pipeline, stock, guidance_scale=stock.scale - 1)


def call_exact_size(pipeline: Any, stock: Stock, **options: Any) -> Tensor:
    return usual_call(pipeline, stock, use_resolution_binning=False, **options)


SPECIMENS = [
    Specimen("sd3", "StableDiffusion3Pipeline", build_3, usual_call),
    Specimen("sd3-without-t5", "StableDiffusion3Pipeline", lambda: build_3(with_t5=False), usual_call),
    Specimen("flux-dev", "FluxPipeline", lambda: build_flux(dev=True), call_flux, NATIVE, scale=3.5),
    Specimen("flux-dpm", "FluxPipeline", build_flux_dpm, call_flux, NATIVE, scale=3.5, sampler="dpmpp-2m"),
    Specimen("flux-schnell", "FluxPipeline", lambda: build_flux(dev=False), call_flux, NATIVE, scale=1.0),
    Specimen("qwen-image", "QwenImagePipeline", build_qwen, call_qwen, NATIVE),
    Specimen("flux-2-klein", "Flux2KleinPipeline", build_flux_2, call_flux_2, NATIVE),
    Specimen("chroma", "ChromaPipeline", build_chroma, call_chroma, NATIVE),
    Specimen("lumina-2", "Lumina2Pipeline", build_lumina, usual_call, NATIVE),
    Specimen("z-image", "ZImagePipeline", build_z, call_z, NATIVE),
    Specimen(
        "sana",
        "SanaPipeline",
        lambda: build_sana(DPMSolverMultistepScheduler(**FLOW_DPM)),
        call_exact_size,
        sampler="dpmpp-2m",
    ),
    Specimen(
        "sana-euler",
        "SanaPipeline",
        lambda: build_sana(FlowMatchEulerDiscreteScheduler(shift=3.0)),
        call_exact_size,
    ),
    Specimen("pixart-sigma", "PixArtSigmaPipeline", build_pixart, call_exact_size, sampler="dpmpp-2m"),
]
