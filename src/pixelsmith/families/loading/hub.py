"""Fetch files from the hub into its cache, with readable errors when that fails."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from pixelsmith.config.parts import Parts
from pixelsmith.errors import ModelError, reason_of
from pixelsmith.families.loading.quiet import quiet, quiet_hub
from pixelsmith.system.places import given_place

HUB_ID = re.compile(
    r"(?P<id>\w[\w.-]*/\w[\w.-]*?)(@(?P<revision>[\w.-]+))?(/(?P<file>([\w.-]+/)*[\w.-]+\.(safetensors|gguf)))?"
)
"""``owner/name``, ``owner/name@revision``, or a single file in one of them."""

CONFIGURATION = ["*.json", "*.txt", "*.model"]
"""The files that planning looks at: configurations and vocabularies."""


def fetched(kind: str, name: str, patterns: list[str], weights: bool = True) -> Path:
    """The folder of a hub id with the files that match the patterns, or its single file. Raises ``ModelError``.

    Without ``weights`` a single file is not fetched, and its path may not exist.
    """
    from huggingface_hub import snapshot_download

    named = HUB_ID.fullmatch(name)
    file = named["file"] if named else None
    wanted = [file] if file and weights else patterns
    folder = _fetched(kind, name, quiet_hub(bars=weights), partial(snapshot_download, allow_patterns=wanted))
    place = folder / (file or "")
    if file and weights and not place.is_file():
        raise ModelError(f"{name}: there is no such file in {name.removesuffix('/' + file)}")
    return place


def fetched_pipeline(model: str, weights: bool, parts: Parts) -> Path:
    """The folder of a hub id in the diffusers format, without parts that are replaced. Raises ``ModelError``."""
    # The configurations of replaced parts are fetched too, because planning reads them.
    folder = fetched("model", model, CONFIGURATION, weights=False)
    if not (folder / "model_index.json").exists():
        raise ModelError(
            f"{model}: it has no model_index.json, so it is no model in the diffusers format; "
            f"a single file in it is {model}/FILE.safetensors"
        )
    if not weights:
        return folder
    with quiet():
        from diffusers import DiffusionPipeline

    given = {"vae": parts.vae, "unet": parts.network, "transformer": parts.network}
    # diffusers does not fetch a part that is passed to it, even if it is ``None``.
    options = {name: None for name, place in given.items() if place} | {"variant": parts.variant}
    safe = None if parts.allow_pickle else True
    return _fetched(
        "model", model, quiet(bars=True), partial(DiffusionPipeline.download, use_safetensors=safe, **options)
    )


def pinned(name: str, place: Path) -> str:
    """A hub id pinned to the commit that was found."""
    named = HUB_ID.fullmatch(name)
    commit = commit_of(place)
    if not named or not commit or given_place(name).exists():
        return name
    return _joined(named, f"@{commit}")


def commit_of(place: Path) -> str | None:
    """The commit of a path in the hub's cache; ``None`` for other paths."""
    commits = (folder.name for folder in (place, *place.parents) if folder.parent.name == "snapshots")
    return next(commits, None)


def unpinned(name: str) -> str:
    """A hub id without its revision; other names are unchanged."""
    named = HUB_ID.fullmatch(name)
    return _joined(named) if named else name


def _joined(named: re.Match[str], revision: str = "") -> str:
    return named["id"] + revision + (f"/{named['file']}" if named["file"] else "")


def _fetched(kind: str, name: str, silence: AbstractContextManager[None], fetch: Callable[..., str]) -> Path:
    named = HUB_ID.fullmatch(name)
    if named is None:
        raise ModelError(f"unknown {kind} {name!r}: there is no such file or folder here, and a hub id is owner/name")
    try:
        with silence:
            return Path(fetch(named["id"], revision=named["revision"]))
    except Exception as error:
        # Downloads involve several libraries, which raise their own errors.
        raise ModelError(_reason(kind, name, error)) from error


def _reason(kind: str, name: str, error: Exception) -> str:
    from huggingface_hub import errors

    reasons: list[tuple[type[Exception], str]] = [
        (errors.GatedRepoError, f"{name}: accept its terms on its page of the hub, then log in with 'hf auth login'"),
        (
            errors.RepositoryNotFoundError,
            f"unknown {kind} {name!r}: there is no such file or folder here, and the hub has no such repository "
            "(or it is private: log in with 'hf auth login')",
        ),
        (errors.RevisionNotFoundError, f"{name}: the hub has no such revision of it"),
        (
            errors.LocalEntryNotFoundError,
            f"unknown {kind} {name!r}: there is no such file or folder here, the hub's cache does not have it, and the "
            "hub cannot be reached (or HF_HUB_OFFLINE is set)",
        ),
    ]
    # diffusers wraps some of them.
    chain = [error, *filter(None, (error.__cause__, error.__context__))]
    known = (text for kind_, text in reasons if any(isinstance(one, kind_) for one in chain))
    return next(known, f"{name}: it cannot be fetched: {reason_of(error)}")
