"""Text is data: tokenize what people wrote without ever reading a control token out of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np

__all__ = ["AddedToken", "Tokenizer", "control_tokens", "plain_texts", "plain_tokens"]


class AddedToken(Protocol):
    """A token that was added to a vocabulary by hand."""

    @property
    def content(self) -> str:
        """Give how it is written."""
        ...

    @property
    def special(self) -> bool:
        """Tell whether it is one that no text may write."""
        ...


class Tokenizer(Protocol):
    """What reading a text as data asks of a tokenizer: transformers' own have it, and `LightTokenizer`."""

    @property
    def unk_token_id(self) -> int | None:
        """Give what stands for characters that the vocabulary does not have."""
        ...

    @property
    def all_special_ids(self) -> Sequence[int]:
        """List the control tokens."""
        ...

    @property
    def all_special_tokens(self) -> Sequence[str]:
        """List how they are written, in the same order."""
        ...

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        """Give all tokens that were added, by number."""
        ...

    def num_special_tokens_to_add(self) -> int:
        """Count the control tokens that the model wants around a text."""
        ...

    def __call__(self, texts: list[str], **settings: bool) -> Mapping[str, list[list[int]]]:
        """Tokenize texts; their tokens are the entry ``input_ids``."""
        ...


def control_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """List the tokens that must never come out of a text, id → how it is written.

    These are the special tokens, and those added tokens that are written like one (``<tool_call>``, ``<sid_0_12>``).
    Added words and runs of blanks are ordinary text.
    """
    found = {
        int(token_id): str(token)
        for token_id, token in zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    }
    for token_id, token in tokenizer.added_tokens_decoder.items():
        text = str(token.content)
        if token.special or (text[:1] in "<[{" and text[-1:] in ">]}" and text.strip()):
            found[int(token_id)] = text
    return found


def plain_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Tokenize texts as data: no control token is added, and none is read out of a text.

    Three lines of defence. The tokenizer splits special tokens like any other characters; where one still comes out
    (Unigram vocabularies hold them as pieces; added tokens that are not marked special), the text is tokenized again
    with a blank inside it; what then remains is left out.

    Args:
        tokenizer: A Hugging Face tokenizer.
        texts: May be empty strings.

    Returns:
        Token ids of each text, without beginning or end token. The unknown token may occur, for characters that the
        vocabulary does not have.
    """
    texts = _valid(texts)
    tokens = _tokenize(tokenizer, texts)
    control = control_tokens(tokenizer)
    smuggled = _rows_with(tokens, texts, control, tokenizer.unk_token_id)
    if smuggled:
        again = _tokenize(tokenizer, [_broken(tokenizer, texts[row], control.values()) for row in smuggled])
        forbidden = control.keys() - {tokenizer.unk_token_id}
        for row, fresh in zip(smuggled, again, strict=True):
            tokens[row] = [token for token in fresh if token not in forbidden]
    return tokens


def plain_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Rewrite the few texts out of which a control token would be read, for a model that tokenizes by itself.

    The tokenizer must have ``split_special_tokens=True`` set; all other texts come back as they are.
    """
    texts = _valid(texts)
    control = control_tokens(tokenizer)
    for row in _rows_with(_tokenize(tokenizer, texts), texts, control, tokenizer.unk_token_id):
        texts[row] = _broken(tokenizer, texts[row], control.values())
    return texts


def _valid(texts: Sequence[str]) -> list[str]:
    """Put a question mark for lone surrogates, which no UTF-8 tokenizer takes."""
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]


def _tokenize(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    found = tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        truncation=False,
        padding=False,
        verbose=False,
    )
    tokens: list[list[int]] = found["input_ids"]
    return tokens


def _rows_with(tokens: list[list[int]], texts: list[str], control: dict[int, str], unknown: int | None) -> list[int]:
    """Find the rows with a control token; the unknown token counts only where its name is written in the text."""
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    flat = np.fromiter((token for row in tokens for token in row), np.int64, int(lengths.sum()))
    owner = np.repeat(np.arange(len(tokens)), lengths)
    wanted = np.array([token for token in control if token != unknown], dtype=np.int64)
    rows = set(owner[np.isin(flat, wanted)].tolist())
    if unknown is not None:
        rows |= {row for row in set(owner[flat == unknown].tolist()) if control.get(unknown, "\0") in texts[row]}
    return sorted(rows)


def _broken(tokenizer: Tokenizer, text: str, names: Collection[str]) -> str:
    """Put a blank behind the first character of each control token's name, also where normalisation would make one."""
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    if not any(name in text for name in names) and normalizer is not None:
        text = normalizer.normalize_str(text)
    for name in sorted(names, key=len, reverse=True):
        if len(name) > 1:
            text = text.replace(name, f"{name[0]} {name[1:]}")
    return text
