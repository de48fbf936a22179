"""A user's request as small frozen values, which are validated when created and round-trip through JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pixelsmith.config.checks import check_choices, check_flag, check_unicode, check_whole, colour_of
from pixelsmith.config.compute import Compute
from pixelsmith.config.method import Method
from pixelsmith.config.parts import Parts
from pixelsmith.config.recommended import Recommended
from pixelsmith.config.regions import Region, RegionsIn, check_regions, regions_from
from pixelsmith.config.settings import Group, setting
from pixelsmith.config.sizes import check_dpi
from pixelsmith.errors import RequestError
from pixelsmith.geometry import MAX_SIDE, Size, Wrap
from pixelsmith.system.places import picture_path

WrapName = Literal["x", "y", "xy"]
ProfileName = Literal["srgb", "display-p3"]

MAX_SEED = 2**64 - 1
"""The largest number that PyTorch's generators begin with."""
DEPTHS = (8, 16, 32)
"""Bits of a channel that files can have; 32 are floats."""
MAX_FEATHER = 10_000
"""Pixels of a mask's edges: so many around each window are read for it."""
EMBEDDED = "embedded"
"""The name of the model that comes with the package."""


@dataclass(frozen=True)
class Request:
    """One picture to make.

    - ``prompt``: what the picture shows, not empty.
    - ``negative_prompt``: what it should not show; may be empty.
    - ``prompt_weighting``: whether both are read in compel's syntax (``(word)1.3``, ``word++``) and without a limit on
      their length. For Stable Diffusion 1.x and 2.x and SDXL.
    - ``size``: the exact size of the result in pixels, at most 10,000,000 on a side.
    - ``seed``: 0 to ``MAX_SEED``; the same request and seed give the same picture.
    - ``model``: a folder in the diffusers format, a single ``.safetensors`` file, a hub id, or ``embedded``.
    - ``parts``: which of the model's files are loaded, and what is added to it or replaces a part of it.
    - ``method``: how the picture is denoised; ``compute``: where and how the work is done.
    - ``from_image``: the path of a picture to start the cascade from, instead of a generated base.
    - ``cascade``: sizes of the stages, each at least as large as the one before; a larger ``size`` adds a
      stage, for a smaller one the last stage is scaled down. Empty chooses the stages. Where aspect ratios differ,
      pictures are cropped to their middle.
    - ``dpi``: the resolution in the file's metadata in dots per inch, 1 to 10,000; ``None`` takes that of
      ``from_image``, or else ``pixelsmith.config.sizes.PRINT_DPI``.
    - ``strip``: whether to drop the metadata of ``from_image`` (EXIF, IPTC, XMP, resolution, geotransform).
    - ``mask``: the path of a grey picture of any size with the aspect ratio of ``from_image`` or of the result: white
      is refined, black keeps the enlarged ``from_image``.
    - ``mask_feather``: the width of the mask's edges in pixels of each stage, 0 to 10,000.
    - ``depth``: bits per channel of the file: 8, 16, or 32 for floats in 0..1; ``dither``: whether 8 bits are dithered,
      which avoids banding in smooth gradients. With more than 8 bits or dithering the last picture is kept in float32,
      which takes four times the space.
    - ``profile``: the colour profile that the file's values are encoded in and that it carries: ``srgb``, or
      ``display-p3``, with 8 or 16 bits per channel and without dithering.
    - ``regions``: parts of the picture with their own prompts, later ones over earlier ones; ``prompt`` is for the
      rest. ``regions_in``: whether regions apply to the base too (``all``) or only to the ``stages``
      (docs/decisions/0040-regions.md).
    - ``wrap``: the axes on which the picture goes on at its other edge: ``xy`` for textures that tile, ``x`` for
      panoramas that close; ``None`` for none (docs/decisions/0041-wrap.md).
    - ``control_images``: the paths of the pictures that ``parts.controlnets`` follow, one for each, in their order,
      scaled and cropped to cover the result (docs/decisions/0043-control.md).
    - ``ip_adapter_images``: the paths of the pictures that prompt the model by ``parts.ip_adapters``, one for each, in
      their order (docs/decisions/0044-ip-adapter.md).
    - ``background``: a CSS colour to composite a transparent ``from_image`` over; ``None`` keeps the transparency.

    Raises ``RequestError`` if a value is out of range, the cascade shrinks, there is a mask but no picture, a region
    lies outside the picture, or there are not as many control pictures as ControlNets, or pictures as IP-Adapters.

    Examples:
        >>> from pixelsmith import PRESETS
        >>> request = Request("map of a coast", Size(4096, 2048), seed=7, method=PRESETS["fast"])
        >>> request.method.stage_steps
        6
        >>> Request.from_dict(request.to_dict()) == request
        True
        >>> request.with_method(slider=0.4).method.slider
        0.4
    """

    prompt: str
    size: Size
    negative_prompt: str = setting("", "What the picture should not show.", Group.PICTURE, common=True)
    seed: int = 0
    model: str = setting(
        EMBEDDED,
        "A diffusers folder, a .safetensors file, or a hub id (owner/name, owner/name@revision).",
        Group.MODEL,
        common=True,
    )
    parts: Parts = field(default_factory=Parts)
    from_image: str | None = setting(
        None, "Enlarge this picture instead of a generated one; PROMPT says what it shows.", Group.SOURCE, common=True
    )
    cascade: tuple[Size, ...] = ()
    method: Method = field(default_factory=Method)
    compute: Compute = field(default_factory=Compute)
    prompt_weighting: bool = setting(
        False, "Read (word)1.3 and word++ as weights, and prompts of any length.", Group.PICTURE
    )
    dpi: float | None = setting(
        None,
        "Dots per inch in the file's metadata.  [default: those of --size, of --from-image, or 300]",
        Group.FILE,
    )
    strip: bool = setting(
        False, "Drop the metadata of --from-image: EXIF, IPTC, XMP, resolution, geotransform.", Group.SOURCE
    )
    background: str | None = setting(
        None,
        "Composite a transparent --from-image over white, #fff8e0, ...  [default: keep transparency]",
        Group.SOURCE,
        metavar="COLOUR",
    )
    mask: str | None = setting(
        None, "A grey picture over --from-image: white is refined, black is only enlarged.", Group.SOURCE
    )
    mask_feather: int = setting(16, "Width of the edges of --mask in pixels.", Group.SOURCE)
    depth: int = setting(
        8,
        "Bits per channel of the file; 32 are floats, for TIFF.",
        Group.FILE,
        choices={str(bits): bits for bits in DEPTHS},
    )
    dither: bool = setting(False, "Dither 8 bits, to avoid banding in smooth gradients.", Group.FILE)
    profile: ProfileName = setting("srgb", "Colour profile of the file.", Group.FILE)
    regions: tuple[Region, ...] = ()
    regions_in: RegionsIn = setting(
        "all", "Whether regions apply to the base too, or only to the stages.", Group.PICTURE
    )
    wrap: WrapName | None = setting(
        None, "Continue at the opposite edge: xy for textures that tile, x for panoramas that close.", Group.PICTURE
    )
    control_images: tuple[str, ...] = setting(
        (),
        "The picture that a --controlnet follows, over the whole result: one for each, in their order.",
        Group.PICTURE,
        option="--control-image",
        metavar="FILE",
    )
    ip_adapter_images: tuple[str, ...] = setting(
        (),
        "The picture that an --ip-adapter follows, whole: one for each, in their order.",
        Group.PICTURE,
        option="--ip-adapter-image",
        metavar="FILE",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "cascade", tuple(self.cascade))
        check_unicode("prompt", self.prompt)
        check_unicode("negative prompt", self.negative_prompt)
        if not self.prompt.strip():
            raise RequestError("the prompt is empty; say what the picture should show")
        if not self.model.strip():
            raise RequestError("the model is empty; give a folder, a .safetensors file, a hub id, or 'embedded'")
        check_flag("prompt weighting", self.prompt_weighting)
        check_whole("seed", self.seed, least=0)
        if self.seed > MAX_SEED:
            raise RequestError(f"seed: expected at most {MAX_SEED}, got {self.seed}")
        check_flag("strip", self.strip)
        if self.background is not None:
            colour_of("background", self.background)
        if self.dpi is not None:
            check_dpi(self.dpi)
        if self.from_image is not None:
            object.__setattr__(self, "from_image", picture_path("from image", str(self.from_image)))
            object.__setattr__(self, "method", self.method.above_given_picture())
        self._check_encoding()
        self._check_mask()
        self._check_sizes()
        object.__setattr__(self, "regions", tuple(self.regions))
        check_choices(self, regions_in=RegionsIn)
        check_regions(self.regions, self.size)
        if self.wrap is not None:
            check_choices(self, wrap=WrapName)
        if self.parts.upsampler is not None and self.method.upsampling in ("latent", "learned"):
            raise RequestError("upsampling: latents cannot be enlarged by --upsampler; leave out one of the two")
        self._check_guides("control_images", "--control-image", "--controlnet", len(self.parts.controlnets))
        self._check_guides("ip_adapter_images", "--ip-adapter-image", "--ip-adapter", len(self.parts.ip_adapters))

    def _check_encoding(self) -> None:
        check_flag("dither", self.dither)
        check_choices(self, profile=ProfileName)
        if self.depth not in DEPTHS or type(self.depth) is not int:
            raise RequestError(f"depth: expected 8, 16 or 32 bits a channel, got {self.depth!r}")
        if self.dither and self.depth > min(DEPTHS):
            raise RequestError("dither: it is for 8 bits a channel; leave it out, or --depth")
        if self.profile != "srgb" and (self.dither or self.depth > 16):
            what = "--dither" if self.dither else f"--depth {self.depth}"
            raise RequestError(
                f"profile: {self.profile} takes 8 or 16 bits without dither; leave out {what}, or --profile"
            )

    def _check_guides(self, field: str, option: str, network: str, count: int) -> None:
        """Whether there is a picture for each network that follows one."""
        what = field.removesuffix("s").replace("_", " ")
        images = tuple(picture_path(what, str(name)) for name in getattr(self, field))
        object.__setattr__(self, field, images)
        if len(images) != count:
            raise RequestError(f"{what}: expected a {option} for each {network}, got {len(images)} for {count}")

    def _check_mask(self) -> None:
        check_whole("mask feather", self.mask_feather, least=0)
        if self.mask_feather > MAX_FEATHER:
            raise RequestError(f"mask feather: expected at most {MAX_FEATHER:,} pixels, got {self.mask_feather:,}")
        if self.mask is None:
            return
        object.__setattr__(self, "mask", picture_path("mask", str(self.mask)))
        if self.from_image is None:
            raise RequestError("mask: it says what stays of a picture to start from; give one (--from-image)")

    def _check_sizes(self) -> None:
        sizes = self.cascade
        if sizes and not self.size.fits_in(sizes[-1]):
            sizes = (*sizes, self.size)
        for size in (*sizes, self.size):
            if max(size.width, size.height) > MAX_SIDE:
                raise RequestError(f"size: expected at most {MAX_SIDE:,} pixels a side, got {size}")
        for before, after in pairwise(sizes):
            if not before.fits_in(after):
                raise RequestError(f"the cascade shrinks from {before} to {after}; no side of a stage may shrink")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back to an equal request."""
        values = asdict(self, dict_factory=_with_lists)
        return values | {"size": str(self.size), "cascade": [str(size) for size in self.cascade]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """Read what ``to_dict`` wrote. Raises ``RequestError`` for unknown names, missing ones or wrong types."""
        try:
            known = dict(values)
            known["size"] = Size.parse(known["size"])
            known["cascade"] = tuple(Size.parse(size) for size in known.get("cascade", ()))
            known["parts"] = Parts.from_dict(known.get("parts", {}))
            known["method"] = Method.from_dict(known.get("method", {}))
            known["compute"] = Compute(**known.get("compute", {}))
            known["regions"] = regions_from(known.get("regions", ()))
            return cls(**known)
        except (TypeError, KeyError, AttributeError) as error:
            names = ", ".join(item.name for item in fields(cls))
            raise RequestError(f"not a request ({error}); it needs {names}") from error

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The paths of all pictures it reads: ``from_image``, the Slider map, the masks, those that networks follow."""
        masks = (self.mask, *(region.mask for region in self.regions))
        named = (self.from_image, self.method.painted_map, *masks, *self.control_images, *self.ip_adapter_images)
        return tuple(Path(name) for name in named if name is not None)

    def texts(self, stage: int) -> tuple[tuple[str, str], ...]:
        """The prompt and the negative prompt of the picture, and those of each region that the stage shows."""
        regions = self.regions if stage > 0 or self.regions_in == "all" else ()
        negatives = (region.negative_prompt for region in regions)
        others = (self.negative_prompt if negative is None else negative for negative in negatives)
        return (self.prompt, self.negative_prompt), *zip((region.prompt for region in regions), others, strict=True)

    @property
    def wrapped_axes(self) -> Wrap:
        """The axes of ``wrap``."""
        return Wrap.named(self.wrap)

    @property
    def unrounded(self) -> bool:
        """Whether the last picture is kept in float32 instead of 8 bits."""
        return self.dither or self.depth > min(DEPTHS)

    def settled(self, recommended: Recommended) -> Request:
        """The same request, with open settings of its method filled in as the model recommends."""
        return replace(self, method=self.method.settled(recommended))

    def with_batch_size(self, batch_size: int) -> Request:
        """The same request with so many patches in one call of the network."""
        return replace(self, compute=replace(self.compute, batch_size=batch_size))

    def with_method(self, **changes: Any) -> Request:
        """The same request with some values of its method changed."""
        return replace(self, method=replace(self.method, **changes))


def _with_lists(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """What JSON knows: a list for a tuple."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in items}
