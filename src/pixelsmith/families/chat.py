"""What the families share whose text encoder is a chat model."""

from __future__ import annotations

from typing import Any

_MARK = "PROMPT"


def room_in_chat(tokenizer: Any, room: int, **options: Any) -> int:
    """How many of ``room`` tokens are left for a prompt after what the chat template puts before it."""
    messages = [{"role": "user", "content": _MARK}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
    return room - len(tokenizer(text[: text.index(_MARK)], add_special_tokens=False).input_ids)
