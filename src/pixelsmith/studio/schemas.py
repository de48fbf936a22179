"""JSON schemas of the bodies that the studio accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pixelsmith.studio.form import MAX_REGIONS, Form
from pixelsmith.studio.jobs import Kind

_POINTS = {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}}
REGION: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string"},
        "box": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
        "polygon": _POINTS,
        "unit": {"type": "string", "enum": ["pixels", "percent"], "default": "pixels"},
        "negative_prompt": {"type": ["string", "null"]},
        "strength": {"type": "number", "minimum": 0, "maximum": 1, "default": 1},
        "feather": {"type": "number", "minimum": 0, "maximum": 100, "default": 5},
    },
    "required": ["prompt"],
}
FORM: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string"},
        "negative_prompt": {"type": "string", "default": ""},
        "size": {"type": "string", "default": Form.size, "examples": ["2048x1024", "60x90cm@300dpi", "40MP"]},
        "model": {"type": "string", "default": Form.model},
        "preset": {"type": "string", "default": Form.preset},
        "seed": {"type": "integer", "minimum": 0, "default": 0},
        "slider": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "regions": {"type": "array", "maxItems": MAX_REGIONS, "items": REGION},
    },
    "additionalProperties": False,
}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
JOB_VALUES = {
    "seeds": _NUMBERS,
    "at": _NUMBERS,
    "sliders": _NUMBERS,
    "of": {"type": "string", "description": "For a redo: the name of the job with the finished picture."},
    "polygon": {**_POINTS, "description": "For a redo: corners of the part in percent of width and height."},
}
"""Values of a job besides its form; ``pixelsmith.studio.jobs.VALUES`` says which kind has which."""
JOB: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": list(get_args(Kind))},
        "form": FORM,
        **JOB_VALUES,
    },
    "required": ["kind", "form"],
    "additionalProperties": False,
}
PLAN: Mapping[str, Any] = {**FORM, "properties": {**FORM["properties"], "project": {"type": "string"}}}
