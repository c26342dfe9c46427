"""Let a language model write freely behind prompts: no rails, drawn, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genrail.models.language_model import AnyModel
from genrail.models.log_softmax import log_softmax

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["drawn_lines"]

Int = npt.NDArray[np.int64]


def drawn_lines(
    model: AnyModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    count: int,
    most_tokens: int,
    randoms: Sequence[np.random.Generator],
    *,
    temperature: float = 1.0,
    choices: int | None = None,
) -> list[list[str]]:
    """Draw some lines behind each prompt; they end at a line break or the end token.

    Control tokens, and others that were added to the vocabulary by hand, are never drawn. What is drawn behind a prompt
    depends on no other prompt, but for roundings where the model computes them together.

    Args:
        model: A `LanguageModel` that reads prompts of token ids.
        tokenizer: Its own.
        prompts: Token ids, one or more.
        count: Lines for each.
        most_tokens: Longest line, its end not counted.
        randoms: A generator for each prompt.
        temperature: Of the draws, above 0.
        choices: Draw each token among so many of the most probable ones; None for all (top-k sampling, Fan et al.
            2018).

    Returns:
        `count` lines for each prompt, stripped, some perhaps empty or the same.

    Cost: one reading of each prompt, and one call of the model for each further token of all lines.
    """
    end = tokenizer.eos_token_id
    allowed = np.ones(model.vocab_size, dtype=np.bool_)
    allowed[len(tokenizer) :] = False  # padded heads have no such token
    added = [token for token in (*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder) if token < len(allowed)]
    allowed[[token for token in added if token != end]] = False
    state, first = model.prefill(prompts)
    owner = np.repeat(np.arange(len(prompts)), count)
    parents, logits = owner, first[owner]
    written: list[list[int]] = [[] for _ in owner]
    still = np.arange(len(owner))
    for depth in range(most_tokens):
        drawn = _drawn(logits, allowed, owner[still], randoms, temperature, choices)
        goes_on = drawn != end
        for row, token in zip(still[goes_on].tolist(), drawn[goes_on].tolist(), strict=True):
            written[row].append(token)
        goes_on &= np.array([not _ended(tokenizer, written[row]) for row in still.tolist()], dtype=np.bool_)
        still, parents, drawn = still[goes_on], parents[goes_on], drawn[goes_on]
        if not len(still) or depth == most_tokens - 1:
            break
        state, logits = model.step(state, parents, drawn)
        parents = np.arange(len(still))
    lines = [_line(tokenizer, tokens) for tokens in written]
    return [lines[first : first + count] for first in range(0, len(lines), count)]


def _drawn(
    logits: npt.NDArray[np.float32],
    allowed: npt.NDArray[np.bool_],
    owner: Int,
    randoms: Sequence[np.random.Generator],
    temperature: float,
    choices: int | None,
) -> Int:
    """Draw one token for each row, by the Gumbel-max trick."""
    table = np.where(allowed, logits, -np.inf)
    tokens = np.broadcast_to(np.arange(table.shape[1]), table.shape)
    if choices is not None and choices < table.shape[1]:
        best = np.sort(np.argpartition(-table, choices - 1, axis=1)[:, :choices], axis=1)
        table, tokens = np.take_along_axis(table, best, axis=1), best
    noise = np.concatenate(
        [randoms[one].gumbel(size=(int((owner == one).sum()), table.shape[1])) for one in np.unique(owner)]
    )
    place = np.argmax(log_softmax(table) / temperature + noise, axis=1)
    drawn: Int = np.take_along_axis(tokens, place[:, None], axis=1)[:, 0]
    return drawn


def _ended(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> bool:
    """Tell whether a line break follows words."""
    return "\n" in str(tokenizer.decode(tokens)).lstrip()


def _line(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    lines = str(tokenizer.decode(tokens, skip_special_tokens=True)).strip().splitlines()
    return lines[0].strip() if lines else ""
