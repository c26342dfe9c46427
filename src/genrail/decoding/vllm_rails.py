"""Rails inside vLLM: processors of both of its model runners, and the exact beam search on top of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from genrail.constraints.index import ConstraintIndex, Subset
from genrail.constraints.trie import Trie
from genrail.decoding.adapters import AllowedTokens
from genrail.decoding.answers import Decoded
from genrail.decoding.beam_search import beam_search
from genrail.decoding.settings import BeamSettings
from genrail.decoding.torch_index import TorchIndex
from genrail.errors import SettingsError
from genrail.models.vllm import CHILDREN, START, TRIE, VllmModel, let_vllm_look_around
from genrail.types import JsonObject

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor.interface import BatchUpdate
    from vllm.v1.worker.gpu.states import RequestState

try:  # vLLM asks for subclasses of its own; without vLLM the functions below still work
    from vllm.v1.sample.logits_processor.builtin import process_dict_updates
    from vllm.v1.sample.logits_processor.interface import LogitsProcessor
    from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as DeviceLogitsProcessor
except ImportError:
    LogitsProcessor = DeviceLogitsProcessor = object

__all__ = ["DeviceRailsProcessor", "RailsProcessor", "put_on_rails", "vllm_search", "walk"]

let_vllm_look_around()  # in a worker of vLLM, which imports this file by name

Children = Callable[[], Sequence[int]]


class StepRows(Protocol):
    """What vLLM's V2 model runner tells of the rows of a step."""

    expanded_idx_mapping: Tensor  # slot of the request of each row


def vllm_search(
    llm: LLM,
    prompts: Sequence[Sequence[int]],
    index: ConstraintIndex,
    settings: BeamSettings | None = None,
    subsets: Sequence[Subset | None] | None = None,
    k: int = 10,
) -> list[Decoded]:
    """Find the k most probable items of each prompt with a vLLM engine; `beam_search` in everything else.

    Args:
        llm: From `open_vllm`.
        prompts: Token ids, made with the engine's own tokenizer.
        index: The identifiers, of the same tokenizer; by branchings where it is a `Trie` or `LiveTrie`.
        settings: Default `BeamSettings()`.
        subsets: Items allowed to each, None for all.
        k: Items wanted.

    Source: the masking of `RailsProcessor` makes vLLM's log-probabilities exactly those of the allowed tokens.
    """
    return beam_search(VllmModel(llm), prompts, index, settings, subsets, k)


def put_on_rails(logits: Tensor, rows: Sequence[int], allowed: Sequence[Sequence[int]]) -> None:
    """Turn some rows of logits into log-probabilities of the allowed tokens, -inf elsewhere, in place.

    Args:
        logits: (rows, V), floating.
        rows: Which rows, each once.
        allowed: Token ids of each of them.

    >>> table = torch.zeros(2, 4)
    >>> put_on_rails(table, [1], [[0, 2]])
    >>> table.exp().tolist()
    [[1.0, 1.0, 1.0, 1.0], [0.25, 0.0, 0.25, 0.0]]
    """
    if not rows:
        return
    chosen = torch.tensor(list(rows), device=logits.device)
    scores = torch.log_softmax(logits[chosen].float(), dim=-1)
    masked = torch.full_like(scores, -torch.inf)
    places = np.repeat(np.arange(len(rows)), [len(tokens) for tokens in allowed])
    place = torch.from_numpy(places).to(logits.device)
    token = torch.tensor([token for tokens in allowed for token in tokens], dtype=torch.int64, device=logits.device)
    masked[place, token] = scores[place, token]
    logits[chosen] = masked.to(logits.dtype)


def _open_trie(vllm_config: VllmConfig) -> Trie | None:
    folder = (getattr(vllm_config, "additional_config", None) or {}).get(TRIE)
    return Trie.load(folder) if folder else None


def _arguments(parameters: SamplingParams) -> JsonObject:
    found: JsonObject = parameters.extra_args or {}
    return found


def _check(parameters: SamplingParams) -> None:
    arguments = _arguments(parameters)
    if CHILDREN in arguments and not arguments[CHILDREN]:
        raise ValueError(f"{CHILDREN} is empty; list the tokens that may follow")


class RailsProcessor(LogitsProcessor):
    """Keep requests of vLLM's V1 model runner on rails, which are named in ``SamplingParams.extra_args``.

    `genrail_children`: the allowed tokens of a request of one token. `genrail_start`: how many tokens the prompt has;
    what follows is walked through the trie that the engine was opened with, and a whole identifier allows the end
    token alone. Other requests are left as they are.
    """

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        trie = _open_trie(vllm_config)
        self._allowed = None if trie is None else AllowedTokens(trie, -1 if trie.end_token is None else trie.end_token)
        self._requests: dict[int, Children] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse arguments that allow nothing."""
        _check(sampling_params)

    def is_argmax_invariant(self) -> bool:
        """Say that the mask changes what is best."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests that come, go and move."""
        process_dict_updates(self._requests, batch_update, self._request)

    def apply(self, logits: Tensor) -> Tensor:
        """Mask the rows of our requests."""
        rows = list(self._requests)
        put_on_rails(logits, rows, [self._requests[row]() for row in rows])
        return logits

    def _request(self, parameters: SamplingParams, prompt: list[int] | None, output: list[int]) -> Children | None:
        arguments = _arguments(parameters)
        if CHILDREN in arguments:
            children: list[int] = arguments[CHILDREN]
            return lambda: children
        if START in arguments:
            if self._allowed is None:
                raise SettingsError(f"{START} needs a trie; open the engine with open_vllm(model, trie=folder)")
            allowed, before = self._allowed, list(prompt or [])[int(arguments[START]) :]
            return lambda: allowed.or_end([*before, *output])  # `output` grows as the request writes
        return None


def walk(index: TorchIndex, tokens: Tensor, lengths: Tensor, end_token: int) -> Tensor:
    """Mark the tokens that may follow what each row has written, without a look at any value.

    Args:
        index: The trie on its device.
        tokens: What is written, padded, int64, (rows, longest identifier or more).
        lengths: How much of it counts, (rows,).
        end_token: Allowed alone behind a whole identifier, and where a row has left the rails.

    Returns:
        bool, (rows, vocab_size). Every row has a True.

    Cost: the lanes of the widest prefix for each token of the longest identifier.

    >>> index = TorchIndex(Trie.from_sequences([[1, 2], [1, 3]], vocab_size=5, end_token=0))
    >>> walk(index, torch.tensor([[1, 0, 0], [1, 2, 0]]), torch.tensor([1, 2]), end_token=0).int().tolist()
    [[0, 0, 1, 1, 0], [1, 0, 0, 0, 0]]
    """
    rows = len(tokens)
    mask = torch.zeros((rows, index.vocab_size), dtype=torch.int32, device=index.device)
    start = index.start(rows)
    beams = start
    for depth in range(index.longest):
        lanes, real = index.children(beams)
        here = (lengths == depth)[:, None] & real[:, 0]
        mask.scatter_add_(1, lanes.tokens[:, 0], here.int())
        goes_on = real & (lanes.tokens == tokens[:, depth, None, None])
        beams = index.follow(beams, lanes, goes_on)
    allowed = mask > 0
    allowed[:, end_token] |= ~allowed.any(dim=1)
    return allowed


class DeviceRailsProcessor(DeviceLogitsProcessor):
    """Keep requests of vLLM's V2 model runner on rails; arguments as for `RailsProcessor`.

    Written tokens are read where they lie, on the device; nothing is copied to the host during a step.
    """

    def __init__(self, vllm_config: VllmConfig, req_states: RequestState) -> None:
        self._states = req_states
        trie = _open_trie(vllm_config)
        self._index = None if trie is None else TorchIndex(trie, req_states.device)
        self._end_token = 0 if trie is None or trie.end_token is None else trie.end_token
        slots, device = req_states.max_num_reqs, req_states.device
        self._start = torch.full((slots,), -1, dtype=torch.int64, device=device)  # -1: not by the trie
        self._fixed = torch.zeros((slots, req_states.vocab_size), dtype=torch.bool, device=device)
        self._staged: dict[int, tuple[int, list[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse arguments that allow nothing."""
        _check(sampling_params)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Take a request into a slot; whatever was in it is forgotten."""
        arguments = _arguments(sampling_params)
        if START in arguments and self._index is None:
            raise SettingsError(f"{START} needs a trie; open the engine with open_vllm(model, trie=folder)")
        self._staged[req_idx] = (int(arguments.get(START, -1)), list(arguments.get(CHILDREN, [])))
        return START in arguments or CHILDREN in arguments

    def apply_staged_writes(self) -> None:
        """Bring what came to the device."""
        for slot, (start, children) in self._staged.items():
            self._start[slot] = start
            self._fixed[slot] = False
            if children:
                self._fixed[slot, torch.tensor(children, device=self._fixed.device)] = True
        self._staged.clear()

    def apply(self, logits: Tensor, ctx: StepRows) -> Tensor:
        """Mask the rows of our requests."""
        slots = ctx.expanded_idx_mapping.long()
        allowed, start = self._fixed[slots], self._start[slots]
        if self._index is not None:
            written = self._written(slots, start, self._index.longest + 1)
            lengths = self._states.total_len.gpu[slots].long() - start
            walked = walk(self._index, written, lengths, self._end_token)
            by_trie = torch.zeros_like(allowed)
            by_trie[:, : walked.shape[1]] = walked
            allowed = torch.where((start >= 0)[:, None], by_trie, allowed)
        ours = allowed.any(dim=1, keepdim=True)
        scores = torch.log_softmax(logits.float(), dim=-1).masked_fill(~allowed, -torch.inf)
        return torch.where(ours, scores.to(logits.dtype), logits)

    def _written(self, slots: Tensor, start: Tensor, length: int) -> Tensor:
        """Cut the answers out of the history of tokens, (rows, length)."""
        history = self._states.all_token_ids.gpu
        place = start.clamp(min=0)[:, None] + torch.arange(length, device=history.device)
        written: Tensor = history[slots[:, None], place.clamp(max=history.shape[1] - 1)].long()
        return written
