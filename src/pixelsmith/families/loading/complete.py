"""Checks that a model is complete: the files of its parts, and tokenizers that match their text encoders.

Libraries replace missing files by defaults, such as an empty vocabulary, with which all prompts are the same, or a text
encoder of another size with random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from pixelsmith.config.parts import Parts
from pixelsmith.errors import ModelError
from pixelsmith.families.loading.find import classes_in, config_folder, find_addition, with_few_steps
from pixelsmith.families.loading.hub import commit_of
from pixelsmith.families.loading.model_files import check_vocabulary, check_weights, read_json, shapes_in
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.families.loading.sources import NETWORKS, PartSources, additions_of, sources_of
from pixelsmith.families.loading.weights import is_index, pickles_in, variants_in, weight_files
from pixelsmith.families.registry import architecture_of
from pixelsmith.families.shared.schedules import is_known_scheduler

LEAST_KNOWN = 0.9
"""The least share of a text encoder's embedding rows for which its tokenizer has tokens. The number of rows is padded:
of the families here T5 uses 0.999 of them, Qwen2.5-VL 0.997."""
_WHOLE_VOCABULARY = "tokenizer.json"
_CONVERTED = ("tokenizer.model", "tiktoken.model", "tekken.json")
"""Files from which transformers can create a tokenizer of any class, if its own files are missing."""
_SIZES = (("vocab_size",), ("hidden_size", "d_model"), ("num_hidden_layers", "num_layers"))
"""The names of each size in the configurations of text encoders."""
_RENAMED = "Transformer2DModel"
"""The former class name of several networks of diffusers, which now have a class each."""
_USUAL = {
    "diffusers": frozenset((
        "AsymmetricAutoencoderKL", "AutoencoderDC", "AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLQwenImage",
        "AutoencoderKLWan", "AutoencoderTiny", "ChromaTransformer2DModel", "Flux2Transformer2DModel",
        "FluxTransformer2DModel", "Lumina2Transformer2DModel", "PixArtTransformer2DModel",
        "QwenImageTransformer2DModel", "SD3Transformer2DModel", "SanaTransformer2DModel", _RENAMED,
        "UNet2DConditionModel", "ZImageTransformer2DModel",
    )),
    "transformers": frozenset((
        "CLIPFeatureExtractor", "CLIPImageProcessor", "CLIPTextModel", "CLIPTextModelWithProjection", "CLIPTokenizer",
        "CLIPTokenizerFast", "Gemma2Model", "GemmaTokenizer", "GemmaTokenizerFast", "Qwen2Tokenizer",
        "Qwen2TokenizerFast", "Qwen2_5_VLForConditionalGeneration", "Qwen3ForCausalLM", "Qwen3Model",
        "T5EncoderModel", "T5Tokenizer", "T5TokenizerFast",
    )),
    "stable_diffusion": frozenset(("StableDiffusionSafetyChecker",)),
}  # fmt: skip
"""Common classes by library. Other names are looked up in the library, whose import takes seconds."""
_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")

Alternatives = Sequence[Sequence[str]]
"""Sets of file names, any one of which is sufficient."""


def check_complete(place: Path, parts: Parts, fetched: bool = False) -> None:
    """Check that all files of a model's parts exist, before any is loaded. Raises ``ModelError``.

    ``fetched``: whether the weights of hub ids must exist too.
    """
    folder = config_folder(place, parts)
    index, sources = read_json(folder / "model_index.json"), sources_of(place, parts)
    _check_named(place, sources, architecture_of(str(index.get("_class_name")), place.name).optional)
    for name, kind in classes_in(folder).items():
        if (source := sources.get(name)) is not None:
            _check_class(f"{folder}: its {name}", index[name][0], kind)
            _check_part(name, kind, source, folder, parts, fetched)
    _check_additions(with_few_steps(folder, parts), fetched)


def _check_part(name: str, kind: str, source: Path, folder: Path, parts: Parts, fetched: bool) -> None:
    base = source if source.is_dir() else folder / name
    _check_files(name, kind, base)
    files: list[Path] = []
    if _has_weights(kind) and source.is_dir() and (fetched or commit_of(source) is None):
        files = _checked_weights(name, source, parts)
    elif source.is_file():
        _check_whole(source)
    if name in _ENCODERS:
        _check_sizes(name, base, files)
    elif name in ("vae", *NETWORKS) and base == folder / name:
        _check_own_class(name, kind, base)


def _check_additions(parts: Parts, fetched: bool) -> None:
    for name in additions_of(parts):
        file = find_addition(name, parts.allow_pickle, weights=fetched)
        if file.is_file():
            _check_whole(file)


def _check_class(what: str, library: str, kind: str) -> None:
    """Check that the class of a part exists. Only known libraries are imported, because an import runs code."""
    if library not in _USUAL:
        raise ModelError(f"{what} is of the library {library!r}; expected one of {', '.join(_USUAL)}")
    if kind in _USUAL[library] or (library == "diffusers" and is_known_scheduler(kind)):
        return
    with quiet():
        from diffusers.pipelines.pipeline_loading_utils import simple_get_class_obj
    try:
        simple_get_class_obj(library, kind)
    except (AttributeError, ValueError) as error:
        raise ModelError(f"{what} is of the class {kind}, which {library} here does not have") from error


def _check_files(name: str, kind: str, base: Path) -> None:
    for needed in _needed_files(kind, base):
        sets = [files for files in needed if all(_is_there(base / file) for file in files)]
        if not sets:
            files = ", or ".join(" and ".join(files) for files in needed)
            raise ModelError(f"{base}: the {name} of this model, a {kind}, lacks {files}")
        for file in sets[0]:
            if file.endswith(".json") and not read_json(base / file):
                raise ModelError(f"{base}: the {name} of this model, a {kind}, has an empty {file}")
            if file == _WHOLE_VOCABULARY:
                check_vocabulary(base / file)


def _check_own_class(name: str, kind: str, base: Path) -> None:
    """Check that configuration and index name the same class; planning reads the former, loading the latter."""
    said = read_json(base / "config.json").get("_class_name")
    if said != kind and _RENAMED not in (said, kind):
        raise ModelError(f"{base}: the {name} of this model is of the class {kind}, its config.json says {said}")


def _check_sizes(name: str, base: Path, files: Sequence[Path]) -> None:
    """Check that the configuration of a text encoder matches its weights.

    For missing sizes transformers uses those of the family's largest model, which takes gigabytes.
    """
    config = read_json(base / "config.json")
    config = config.get("text_config") or config
    sizes: list[Any] = [next((config[key] for key in keys if key in config), None) for keys in _SIZES]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        expected = ", ".join(" or ".join(keys) for keys in _SIZES)
        raise ModelError(f"{base}: the config.json of this {name} does not say its sizes: expected {expected}")
    words, width, layers = sizes
    shapes = [list(shape) for file in files for shape in shapes_in(file).values()]
    if shapes and ([words, width] not in shapes or layers > len(shapes)):
        raise ModelError(
            f"{base}: the config.json of this {name} does not match its weights: it has {words:,} words of {width:,} "
            f"values and {layers:,} layers, unlike the weights"
        )


def _check_whole(file: Path) -> None:
    check_weights(file)
    shapes_in(file)


def _needed_files(kind: str, base: Path) -> list[Alternatives]:
    """The files, other than weights, from which a part of this class is loaded."""
    if _is_tokenizer(kind):
        # The configuration of a tokenizer contains the encoder's token limit and the chat template.
        return [_vocabularies(kind, base), [["tokenizer_config.json"]]]
    if kind.endswith("Scheduler"):
        return [[["scheduler_config.json"]]]
    if not _has_weights(kind):
        return [[["preprocessor_config.json"], ["processor_config.json"]]]
    return [[["config.json"]]]


def _is_tokenizer(kind: str) -> bool:
    return kind.removesuffix("Fast").endswith("Tokenizer")


def _has_weights(kind: str) -> bool:
    return not (_is_tokenizer(kind) or any(word in kind for word in ("Scheduler", "Processor", "FeatureExtractor")))


def _vocabularies(kind: str, base: Path) -> Alternatives:
    if _is_there(base / _WHOLE_VOCABULARY):
        # This is independent of the class, whose lookup in transformers takes time.
        return [[_WHOLE_VOCABULARY]]
    import transformers

    known: dict[str, str] = getattr(transformers, kind).vocab_files_names
    own = [file for file in known.values() if file not in (_WHOLE_VOCABULARY, *_CONVERTED)]
    # Some classes, such as those for bytes, have no vocabulary file.
    return [[_WHOLE_VOCABULARY], *([own] if own else []), *([file] for file in _CONVERTED)] if known else [[]]


def _is_there(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _check_named(place: Path, sources: PartSources, optional: Sequence[str]) -> None:
    """Check for parts that every pipeline needs, even if its ``model_index.json`` does not name them."""
    there = {name for name, source in sources.items() if source is not None}
    missing = [name for name in ("vae", "scheduler") if name not in there]
    missing += [] if there & {*NETWORKS} else [" or ".join(NETWORKS)]
    missing += [] if there & {*_ENCODERS} else [_ENCODERS[0]]
    for encoder in _ENCODERS:
        tokenizer = _tokenizer_of(encoder)
        missing += [tokenizer] if encoder in there and tokenizer not in there else []
        missing += [encoder] if tokenizer in there and encoder not in {*there, *optional} else []
    if missing:
        raise ModelError(f"{place}: it has no {', '.join(dict.fromkeys(missing))}, which its pipeline needs")


def _tokenizer_of(encoder: str) -> str:
    return encoder.replace("text_encoder", "tokenizer")


def _checked_weights(name: str, folder: Path, parts: Parts) -> list[Path]:
    """The weight files to load, after checks that they exist and are not truncated."""
    files = weight_files(folder, parts.variant, parts.allow_pickle)
    if not files:
        others = sorted(filter(None, variants_in(folder, parts.allow_pickle)))
        pickles = not parts.allow_pickle and bool(pickles_in(folder, parts.variant))
        hint = f"; there are weights of a variant, which --variant {others[0]} loads" if others else ""
        hint += "; there are pickles, which can run any code: --allow-pickle loads them" if pickles else ""
        raise ModelError(f"{folder}: the {name} of this model has no weights there{hint}")
    maps = [read_json(index).get("weight_map", {}) for index in filter(is_index, files)]
    if not all(isinstance(weight_map, dict) for weight_map in maps):
        raise ModelError(f"{folder}: the {name} of this model has an index without a weight_map")
    shards = {str(file) for weight_map in maps for file in weight_map.values()}
    if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
        raise ModelError(f"{folder}: the {name} of this model lacks {', '.join(missing)}")
    found = [file for file in files if not is_index(file)]
    for file in found:
        _check_whole(file)
    return found


def check_tokenizers(pipeline: Any, model: str) -> None:
    """Check that each tokenizer of a pipeline matches its encoder in tokens and length. Raises ``ModelError``."""
    for name in _ENCODERS:
        its = _tokenizer_of(name)
        encoder, tokenizer = getattr(pipeline, name, None), getattr(pipeline, its, None)
        if encoder is None or tokenizer is None:
            continue
        words, rows = len(tokenizer), encoder.get_input_embeddings().weight.shape[0]
        if not LEAST_KNOWN * rows <= words <= rows:
            raise ModelError(
                f"{model}: its {its} has {words:,} tokens, its {name} knows {rows:,}: they do not belong together, or "
                "the tokenizer's files are damaged"
            )
        least = tokenizer.num_special_tokens_to_add() + 1
        if tokenizer.model_max_length < least:
            raise ModelError(
                f"{model}: its {its} leaves no room for words; expected a model_max_length of at least {least} in its "
                f"tokenizer_config.json, got {tokenizer.model_max_length}"
            )
        places = [module for path, module in encoder.named_modules() if path.endswith("position_embedding")]
        longest = min((module.num_embeddings for module in places if isinstance(module, nn.Embedding)), default=None)
        if longest is not None and tokenizer.model_max_length > longest:
            raise ModelError(
                f"{model}: its {its} gives up to {tokenizer.model_max_length:,} tokens, its {name} reads {longest:,}; "
                "expected that as model_max_length in its tokenizer_config.json"
            )
