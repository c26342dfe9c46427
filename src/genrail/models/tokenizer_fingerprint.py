"""Identify a tokenizer by what it does."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["tokenizer_fingerprint"]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash what a tokenizer does, not where it lies.

    Args:
        tokenizer: A Hugging Face tokenizer. Two copies of the same files give the same hash; one more token, another
            pre-tokenizer or another terminator gives another.

    Returns:
        64 hexadecimal digits.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        content = json.loads(backend.to_str())
        content.pop("truncation", None)  # these two are left behind by calls, they are no property of the tokenizer
        content.pop("padding", None)
    else:
        content = {"vocabulary": sorted(tokenizer.get_vocab().items()), "class": type(tokenizer).__name__}
    content["added"] = sorted(tokenizer.get_added_vocab().items())
    content["special"] = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
