"""Prompts for text encoders that are chat models."""

from __future__ import annotations

from typing import Any

from pixelsmith.errors import ModelError

_MARK = "PROMPT"


def room_in_chat(tokenizer: Any, room: int, **options: Any) -> int:
    """How many of ``room`` tokens remain for a prompt after the tokens that the chat template puts before it.

    Raises ``ModelError`` if the tokenizer has no template, or the template omits the prompt.
    """
    if not tokenizer.chat_template:
        raise ModelError("its tokenizer lacks chat_template.jinja, the format that its prompts have")
    messages = [{"role": "user", "content": _MARK}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
    if _MARK not in text:
        raise ModelError("the chat_template.jinja of its tokenizer leaves out the prompt")
    return room - len(tokenizer(text[: text.index(_MARK)], add_special_tokens=False).input_ids)
