"""The OpenAPI 3.1 description of the studio's operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pixelsmith.studio.operations import Operation
from pixelsmith.version import __version__

EVENTS = "/api/events"


def description(operations: Sequence[Operation]) -> dict[str, Any]:
    """All operations as an OpenAPI document."""
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    stream = {"description": "The state of each job when it changes.", "content": {"text/event-stream": {}}}
    paths[EVENTS] = {
        "get": {"operationId": "events", "summary": "State changes of all jobs.", "responses": {"200": stream}}
    }
    scheme = {"type": "apiKey", "in": "query", "name": "token"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pixelsmith studio", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {"token": scheme}},
    }


def _described(operation: Operation) -> dict[str, Any]:
    names = [(name, "path") for name in re.findall(r"{(\w+)}", operation.path)]
    names += [(name, "query") for name in operation.query]
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            {"name": name, "in": where, "required": where == "path", "schema": {"type": "string"}}
            for name, where in names
        ],
        "responses": {"200": {"description": operation.summary, "content": {operation.answers: {}}}},
    }
    if operation.method != "GET":
        found["security"] = [{"token": []}]
    if operation.upload:
        found["requestBody"] = {"required": True, "content": {"image/*": {}}}
    elif operation.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": operation.body}}}
    return found
