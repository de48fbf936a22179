"""Whether a model is complete: the files that its parts need, and tokenizers that belong to their text encoders.

Libraries put defaults where files are missing: an empty vocabulary, for which all prompts are the same,
or a text encoder of another size with random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from pixelsmith.errors import ModelError
from pixelsmith.families.find import classes_in, config_folder, read_json
from pixelsmith.families.hub import commit_of
from pixelsmith.families.registry import architecture_of
from pixelsmith.families.sources import NETWORKS, Sources, sources_of
from pixelsmith.families.weights import is_index, variants_in, weight_files
from pixelsmith.parts import Parts

LEAST_KNOWN = 0.9
"""The share of a text encoder's rows that its tokenizer has words for, at least. Rows are padded to a round number: of
the families here T5 has 0.999 of them in use, Qwen2.5-VL 0.997."""
_WHOLE_VOCABULARY = "tokenizer.json"
_CONVERTED = ("tokenizer.model", "tiktoken.model", "tekken.json")
"""What transformers makes a tokenizer of any class from, where its own files are not there."""
_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")

Alternatives = Sequence[Sequence[str]]
"""Sets of file names, any of which is enough."""


def check_complete(place: Path, parts: Parts, fetched: bool = False) -> None:
    """Look for the files that each part of a model needs, before any is loaded. Raises ``ModelError``.

    ``fetched``: whether the weights of hub ids must be there, too.
    """
    folder = config_folder(place, parts)
    index, sources = read_json(folder / "model_index.json"), sources_of(place, parts)
    _check_named(place, sources, architecture_of(str(index.get("_class_name")), place.name).optional)
    for name, kind in classes_in(folder).items():
        source = sources.get(name)
        if source is None:
            continue
        base = source if source.is_dir() else folder / name
        for needed in _needed_files(kind, base):
            if not any(all(_is_there(base / file) for file in files) for files in needed):
                files = ", or ".join(" and ".join(files) for files in needed)
                raise ModelError(f"{base}: the {name} of this model, a {kind}, lacks {files}")
        if _has_weights(kind) and source.is_dir() and (fetched or commit_of(source) is None):
            _check_weights(name, source, parts)


def _needed_files(kind: str, base: Path) -> list[Alternatives]:
    """What a part of this class is read from, but for weights."""
    if _is_tokenizer(kind):
        # Without its configuration a tokenizer does not know how much its encoder reads, nor the format of a chat.
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
        # So it is whatever the class, which takes transformers some time to find.
        return [[_WHOLE_VOCABULARY]]
    import transformers

    known = getattr(getattr(transformers, kind, None), "vocab_files_names", None)
    if known is None:
        raise ModelError(f"{base}: its tokenizer is a {kind}, which transformers {transformers.__version__} has not")
    own = [file for file in known.values() if file not in (_WHOLE_VOCABULARY, *_CONVERTED)]
    # Some classes, such as that of bytes, have no vocabulary in a file.
    return [[_WHOLE_VOCABULARY], *([own] if own else []), *([file] for file in _CONVERTED)] if known else [[]]


def _is_there(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _check_named(place: Path, sources: Sources, optional: Sequence[str]) -> None:
    """What every pipeline needs, whether or not its ``model_index.json`` names it."""
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


def _check_weights(name: str, folder: Path, parts: Parts) -> None:
    files = weight_files(folder, parts.variant, parts.allow_pickle)
    if not any(map(_is_there, files)):
        others = sorted(filter(None, variants_in(folder, parts.allow_pickle)))
        pickles = not parts.allow_pickle and bool(weight_files(folder, parts.variant, allow_pickle=True))
        hint = f"; there are those of a variant, --variant {others[0]} takes them" if others else ""
        hint += "; there are pickles, which can run any code: --allow-pickle takes them" if pickles else ""
        raise ModelError(f"{folder}: the {name} of this model has no weights there{hint}")
    maps = [read_json(index).get("weight_map", {}) for index in filter(is_index, files)]
    shards = {str(file) for weight_map in maps for file in weight_map.values()}
    if missing := sorted(shard for shard in shards if not _is_there(folder / shard)):
        raise ModelError(f"{folder}: the {name} of this model lacks {', '.join(missing)}")


def check_tokenizers(pipeline: Any, model: str) -> None:
    """Whether each tokenizer of a loaded pipeline has its encoder's words and length. Raises ``ModelError``."""
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
