"""Key-value caches with one row per beam: for encoder-decoders, and where attention cannot be shared by a mask."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from genrail.models.checkpoint_model import tail_log_probabilities, to_numpy

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

__all__ = ["RowsState", "select_rows", "step_rows"]

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

Forward: TypeAlias = "Callable[[Any, torch.Tensor, Cache], tuple[torch.Tensor, Cache]]"
"""(what the prompt needs, ids (rows, n), cache) -> (logits (rows, n, V), cache): one call of the model."""


@dataclass(frozen=True)
class RowsState:
    """Remember the beams of a few prompts, each prompt with a cache of its own.

    Args:
        prompts: What the model needs of each prompt besides the cache, such as the encoder's output.
        caches: One cache per prompt, None for a prompt without beams.
        prompt: Prompt of each row, shape (rows,).
        place: Row within its prompt's cache, shape (rows,).
    """

    prompts: tuple[torch.Tensor | None, ...]
    caches: tuple[Cache | None, ...]
    prompt: Int
    place: Int


def select_rows(cache: Cache, rows: torch.Tensor) -> Cache:
    """Copy the chosen rows of a cache into a new one; the old one stays as it is.

    Args:
        cache: A transformers cache of any kind with dynamic layers.
        rows: Which rows, (new rows,); they may repeat, drop out or change order.

    Cost: one copy of the chosen rows. Cross-attention of an encoder-decoder cache, the same for all beams of a prompt,
    is not copied but seen through a view.
    """
    if hasattr(cache, "cross_attention_cache"):
        chosen = copy.copy(cache)
        chosen.self_attention_cache = select_rows(cache.self_attention_cache, rows)
        chosen.cross_attention_cache = _repeat_view(cache.cross_attention_cache, len(rows))
        chosen.is_updated = dict(cache.is_updated)
        return chosen
    chosen = _shallow(cache)
    chosen.reorder_cache(rows)  # binds new tensors in the copied layers
    return chosen


def _shallow(cache: Cache) -> Cache:
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in chosen.layers:
        for name, value in vars(layer).items():
            if isinstance(value, dict | list):  # per-layer states of recurrent models
                setattr(layer, name, copy.copy(value))
    return chosen


def _repeat_view(cache: Cache, rows: int) -> Cache:
    chosen = _shallow(cache)
    for layer in chosen.layers:
        layer.keys = layer.keys[:1].expand(rows, -1, -1, -1)
        layer.values = layer.values[:1].expand(rows, -1, -1, -1)
    return chosen


def step_rows(
    forward: Forward, state: RowsState, parents: Int, tokens: Int, tails: Sequence[Int], most_tokens: int
) -> tuple[RowsState, Float32, list[Float64]]:
    """Append one token to each row, and score the tails; see `TailModel.step_tails`.

    Args:
        forward: One call of the model.
        state: From the prefill or an earlier step.
        parents: Row that each new row continues, (rows,).
        tokens: Token that it appends, (rows,).
        tails: Tokens that must follow, empty for open rows.
        most_tokens: Tokens read together when tails are scored; bounds the memory of their logits.

    Cost: one call for each prompt, and one more for its tails. Prompts are never mixed in a call, so the numbers of one
    cannot depend on another.
    """
    lengths = np.array([len(tail) for tail in tails], dtype=np.int64)
    is_open = lengths == 0
    prompt, place = state.prompt[parents], state.place[parents]
    caches: list[Cache | None] = [None] * len(state.prompts)
    logits: list[Float32] = []
    order: list[Int] = []
    scores: list[Float64] = [np.zeros(0) for _ in tails]
    new_place = np.zeros(len(parents), dtype=np.int64)
    for number in np.unique(prompt).tolist():
        extra, cache = state.prompts[number], state.caches[number]
        rows = np.flatnonzero((prompt == number) & is_open)
        if len(rows):
            chosen = select_rows(cache, torch.from_numpy(place[rows]))
            output, caches[number] = forward(extra, torch.from_numpy(tokens[rows])[:, None], chosen)
            logits.append(to_numpy(output[:, -1]))
            order.append(rows)
            new_place[rows] = np.arange(len(rows))
        for rows in _in_portions(np.flatnonzero((prompt == number) & ~is_open), lengths, most_tokens):
            chosen = select_rows(cache, torch.from_numpy(place[rows]))
            read = _score_tails(forward, extra, chosen, tokens[rows], [tails[row] for row in rows.tolist()])
            for row, score in zip(rows, read, strict=True):
                scores[row] = score
    table = np.concatenate(logits) if logits else np.zeros((0, 0), dtype=np.float32)
    if len(order) > 1:
        table = table[np.argsort(np.concatenate(order), kind="stable")]
    return RowsState(state.prompts, tuple(caches), prompt[is_open], new_place[is_open]), table, scores


def _in_portions(rows: Int, lengths: Int, most_tokens: int) -> list[Int]:
    """Split rows so that a padded rectangle of their tails holds at most `most_tokens` tokens."""
    portions: list[list[int]] = []
    for row in rows.tolist():
        longest = max([lengths[row], *(lengths[other] for other in portions[-1])]) if portions else 0
        if portions and longest * (len(portions[-1]) + 1) <= most_tokens:
            portions[-1].append(row)
        else:
            portions.append([row])
    return [np.array(portion) for portion in portions]


def _score_tails(
    forward: Forward, extra: torch.Tensor | None, cache: Cache, tokens: Int, tails: Sequence[Int]
) -> list[Float64]:
    """Read known ends in one call, padded on the right: what stands behind a token cannot change its logits."""
    longest = max(map(len, tails))
    ids = np.zeros((len(tails), longest), dtype=np.int64)
    for row, (token, tail) in enumerate(zip(tokens, tails, strict=True)):
        ids[row, : len(tail)] = [token, *tail[:-1]]
    output, _ = forward(extra, torch.from_numpy(ids), cache)
    real = torch.tensor([[column < len(tail) for column in range(longest)] for tail in tails], device=output.device)
    targets = torch.from_numpy(np.concatenate(list(tails))).to(output.device)
    scores = tail_log_probabilities(output[real], targets)
    return np.split(scores, np.cumsum([len(tail) for tail in tails])[:-1])
