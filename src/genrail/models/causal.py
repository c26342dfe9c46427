"""Decoder-only language models (Llama, Qwen, GPT-2, ...) behind the `LanguageModel` protocol."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from genrail.errors import QueryError, SettingsError
from genrail.models.beam_rows import RowsState, select_rows, step_rows
from genrail.models.checkpoint_model import CheckpointModel, to_numpy
from genrail.models.output_layer import OutputLayer, WholeLogits
from genrail.models.prompts import frame
from genrail.models.token_tree import EVERYTHING, Attention, TokenTree
from genrail.types import Json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import Cache

__all__ = ["CausalModel", "TreeState"]

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_log = logging.getLogger(__name__)

TAIL_LOGITS_BYTES = 256 * 2**20  # logits of one call; 440 tokens of a vocabulary of 152,000
MOST_TOKENS = 1024  # tokens of one call with shared attention: its mask grows with their square
TRIAL_WINDOW = 3  # shorter than the five tokens that are tried


@dataclass(frozen=True)
class TreeState:
    """Say where each row stands: in which tree, for which of its prompts, at which node. Shapes (rows,)."""

    trees: tuple[TokenTree, ...]
    tree: Int
    prompt: Int
    node: Int


class CausalModel(CheckpointModel):
    """Continue a prompt with an identifier.

    Each prompt is read once, alone. All its beams then share the prompt's keys and values: by tree attention where the
    architecture allows it (attention to everything or to a sliding window, checked by a trial when the model is
    loaded), else with a cache row for each beam. The output layer is computed apart from the body, for the rows that
    are asked for. No setting of the checkpoint's generation configuration is applied.

    Args:
        model: A transformers causal language model.
        tokenizer: Its tokenizer object.
        name: For reports.
        attention: `shared`: tree attention; `rows`: one cache row per beam; `auto`: shared where the trial agrees.
        prompts_together: Prompts whose beams run in one call of the model. Default: 1 on a CPU, so that no query can
            move another's numbers by a rounding; 16 on a GPU, for throughput.

    Raises:
        SettingsError: attention="shared" for a model that cannot.

    Source: tree attention as in Miao et al. 2024, SpecInfer; here for beams rather than for speculation.
    """

    family = "causal"
    over: CausalModel | None = None
    """The model whose weights this one shares; it is kept as long as this one is."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "",
        attention: Literal["auto", "shared", "rows"] = "auto",
        prompts_together: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer, name)
        if attention not in ("auto", "shared", "rows"):
            raise SettingsError(f"attention is {attention!r}; give 'auto', 'shared' or 'rows'")
        self.prompts_together = prompts_together or (1 if self.device.type == "cpu" else 16)
        self._keeps_last = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._prefix: tuple[tuple[int, ...], DynamicCache] | None = None
        self._told = False
        self.attention: Literal["shared", "rows"] = "rows"
        self._sees = Attention.of(model.config) or EVERYTHING
        self.body, self.output = _parted(model)
        if attention != "rows" and Attention.of(model.config) is not None and self._trial():
            self.attention = "shared"
        if attention == "shared" and self.attention != "shared":
            raise SettingsError(f"{self.name} cannot share attention among beams; use attention='rows'")

    def prefill(self, contexts: Sequence[Sequence[int]]) -> tuple[TreeState | RowsState, Float32]:
        """Read each prompt, a list of token ids, once.

        Raises:
            QueryError: A prompt is empty, or longer than the model's context; nothing is ever cut.
        """
        self._check_prompts(contexts)
        read = [self._read(context) for context in contexts]
        logits = np.concatenate([self._logits([hidden]) for _, hidden in read]) if read else self._logits([])
        if self.attention == "rows":
            rows = np.arange(len(contexts))
            caches = tuple(cache for cache, _ in read)
            return RowsState((None,) * len(read), caches, rows, np.zeros_like(rows)), logits
        return self._planted([cache for cache, _ in read]), logits

    def _planted(self, caches: Sequence[Cache]) -> TreeState:
        """Begin the trees of some prompts."""
        rows, size = np.arange(len(caches)), self.prompts_together
        pairs = [[(layer.keys, layer.values) for layer in cache.layers] for cache in caches]
        groups = [pairs[first : first + size] for first in range(0, len(pairs), size)]
        trees = tuple(TokenTree(self.body, group, self._sees) for group in groups)
        return TreeState(trees, rows // size, rows % size, np.full(len(rows), -1))

    @torch.inference_mode()
    def _logits(self, hidden: Sequence[torch.Tensor]) -> Float32:
        """Compute the logits of the whole vocabulary behind some hidden states, (rows, V)."""
        if not hidden:
            return np.zeros((0, self.vocab_size), dtype=np.float32)
        return to_numpy(self.output.logits(torch.cat(list(hidden))))

    def step(self, state: TreeState | RowsState, parents: Int, tokens: Int) -> tuple[TreeState | RowsState, Float32]:
        """Append one token to each row; older states stay usable.

        Raises:
            QueryError: Prompt and answer together are longer than the model's context.
        """
        after, logits, _ = self.step_tails(state, parents, tokens, [np.zeros(0, dtype=np.int64)] * len(parents))
        return after, logits

    @property
    def joins_states(self) -> bool:
        """Tell whether `join` can put rows of different length into one state: with shared attention."""
        return self.attention == "shared"

    @property
    def sees(self) -> Attention:
        """Say what its layers see."""
        return self._sees

    @torch.inference_mode()
    def step_tails(
        self, state: TreeState | RowsState, parents: Int, tokens: Int, tails: Sequence[Int]
    ) -> tuple[TreeState | RowsState, Float32, list[Float64]]:
        """Append one token to each row, and score the tail behind it; state and logits are of the open rows alone.

        With shared attention, open rows and tails are one call of the model for each group of prompts.
        """
        if isinstance(state, RowsState):
            most_tokens = max(1, TAIL_LOGITS_BYTES // (4 * self.vocab_size))
            return step_rows(self._forward_rows, state, parents, tokens, tails, most_tokens)
        runs = [np.concatenate([tokens[row : row + 1], tail[:-1]]) for row, tail in enumerate(tails)]
        is_open = np.array([not len(tail) for tail in tails], dtype=np.bool_)
        after, hidden = self._grow(state, parents, runs, is_open)
        scores: list[Float64] = [np.zeros(0) for _ in tails]
        tables: list[Float32] = []
        order: list[Int] = []
        tree = state.tree[parents]
        for number in np.unique(tree):  # the layer too is computed apart, so that no tree moves another's numbers
            ends, opened = (np.flatnonzero((tree == number) & chosen) for chosen in (~is_open, is_open))
            for row, score in zip(ends, self._tail_scores(hidden, tails, ends), strict=True):
                scores[row] = score
            if len(opened):
                tables.append(self._logits([hidden[row][-1:] for row in opened]))
                order.append(opened)
        if len(order) > 1:
            tables = [np.concatenate(tables)[np.argsort(np.concatenate(order), kind="stable")]]
        return after, tables[0] if tables else self._logits([]), scores

    def _tail_scores(self, hidden: Sequence[torch.Tensor], tails: Sequence[Int], rows: Int) -> list[Float64]:
        """Give the log-probabilities of some rows' tails; `hidden` holds the states before each of their tokens."""
        if not len(rows):
            return []
        behind = torch.cat([hidden[row] for row in rows])
        targets = torch.from_numpy(np.concatenate([tails[row] for row in rows])).to(behind.device)
        found = self.output.log_probabilities(behind, targets)
        return np.split(found, np.cumsum([len(tails[row]) for row in rows])[:-1])

    @property
    def reads_runs(self) -> bool:
        """Tell whether the model is a `RunModel`: with shared attention."""
        return self.attention == "shared"

    def open_runs(self, contexts: Sequence[Sequence[int]]) -> tuple[TreeState, torch.Tensor]:
        """Read each prompt, and give its last hidden state, (contexts, width), instead of logits; see `RunModel`."""
        self._check_prompts(contexts)
        read = [self._read(context) for context in contexts]
        return self._planted([cache for cache, _ in read]), torch.cat([hidden for _, hidden in read])

    @torch.inference_mode()
    def read_runs(self, state: TreeState, parents: Int, runs: Sequence[Int]) -> tuple[TreeState, torch.Tensor]:
        """Append several tokens to each row, and give the hidden state behind each of them; see `RunModel`."""
        after, hidden = self._grow(state, parents, runs, np.ones(len(runs), dtype=np.bool_))
        return after, torch.cat(hidden)

    def logits_of(self, hidden: torch.Tensor, rows: Int, tokens: Int) -> Float32:
        """Compute single logits; see `RunModel`."""
        return self.output.chosen(hidden, rows, tokens)

    def log_sums(self, hidden: torch.Tensor, rows: Int) -> Float64:
        """Compute the log-sum-exp over the whole vocabulary behind some hidden states; see `RunModel`."""
        return self.output.log_sums(hidden[torch.from_numpy(rows).to(hidden.device)])

    def join(self, states: Sequence[TreeState]) -> tuple[TreeState, list[int]]:
        """Put the rows of several states of one prefill into one; give it, and the row at which each of them begins.

        Only with shared attention: rows of different length can then run in one call of the model.
        """
        first = np.cumsum([0, *(len(state.node) for state in states)])[:-1].tolist()
        tree, prompt, node = (
            np.concatenate([getattr(state, name) for state in states]) for name in ("tree", "prompt", "node")
        )
        return TreeState(states[0].trees, tree, prompt, node), first

    def keys_and_values(self, context: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Read a beginning, and give the keys and values of each layer, (1, heads, tokens, size), to be kept."""
        self._check_prompts([context])
        return [(layer.keys, layer.values) for layer in self._read(context)[0].layers]

    def planted(self, beginnings: Sequence[list[tuple[torch.Tensor, torch.Tensor]]]) -> TokenTree:
        """Put some beginnings side by side, to read what follows them in one call."""
        return TokenTree(self.body, beginnings, self._sees)

    def check_lengths(self, lengths: Sequence[int]) -> None:
        """Refuse texts that are longer than the model reads.

        Raises:
            QueryError: There is one.
        """
        for place, length in enumerate(lengths):
            if self.context_size is not None and length > self.context_size:
                raise QueryError(
                    f"text {place} has {length} tokens with the request but {self.name} reads {self.context_size}; "
                    "shorten the request, or rank by titles"
                )

    @torch.inference_mode()
    def mean_log_probabilities(self, hidden: torch.Tensor, tokens: Sequence[int]) -> Float64:
        """Average the log-probabilities of the same tokens behind the hidden states of each row.

        Args:
            hidden: The state before each of the tokens, (rows, tokens, width).
            tokens: What follows, (tokens,).
        """
        targets = torch.tensor(list(tokens), device=hidden.device).repeat(len(hidden))
        found = self.output.log_probabilities(hidden.reshape(-1, hidden.shape[2]), targets)
        return np.asarray(found.reshape(len(hidden), -1).mean(axis=1))

    def remember_prefix(self, tokens: Sequence[int]) -> None:
        """Keep the keys and values of a beginning that all prompts share, so that they are read once and not each time.

        Prompts that begin otherwise are read whole as before. An empty list forgets.

        Args:
            tokens: Such as `Prompts.shared_prefix`.
        """
        self._prefix = None
        if len(tokens):
            self._check_prompts([tokens])
            self._prefix = (tuple(tokens), self._read(tokens)[0])

    def describe(self) -> dict[str, Json]:
        """Give name, parameters and settings."""
        return {
            **super().describe(),
            "family": self.family,
            "attention": self.attention,
            "prompts_together": self.prompts_together,
        }

    @torch.inference_mode()
    def _read(self, context: Sequence[int]) -> tuple[Cache, torch.Tensor]:
        """Run the body over one prompt; give its cache and the last hidden state, (1, width)."""
        self._check_beginning(context)
        # Layers with a window keep no more than it in a cache of their own kind; trees want every token's place.
        ids, cache = list(context), DynamicCache() if self._sees.window is not None else None
        if (
            self._prefix is not None
            and len(ids) > len(self._prefix[0])
            and tuple(ids[: len(self._prefix[0])]) == self._prefix[0]
        ):
            cache = select_rows(self._prefix[1], torch.zeros(1, dtype=torch.int64))
            ids = ids[len(self._prefix[0]) :]
        last = {"logits_to_keep": 1} if self.body is self.model and self._keeps_last else {}
        output = self.body(
            input_ids=torch.tensor([ids], device=self.device), past_key_values=cache, use_cache=True, **last
        )
        return output.past_key_values, output[0][:, -1]

    def _check_beginning(self, context: Sequence[int]) -> None:
        """Say once when a prompt lacks what the tokenizer sets before each text: many base models are lost without."""
        if self._told or not callable(self.tokenizer):
            return
        wanted = self._beginning
        if wanted and tuple(context[: len(wanted)]) != wanted:
            self._told = True
            names = " ".join(str(self.tokenizer.convert_ids_to_tokens(token)) for token in wanted)
            _log.warning("a prompt of %s does not begin with %s, as its tokenizer begins each text", self.name, names)

    @cached_property
    def _beginning(self) -> tuple[int, ...]:
        return tuple(frame(self.tokenizer)[0])

    def _forward_rows(self, _: None, ids: torch.Tensor, cache: Cache) -> tuple[torch.Tensor, Cache]:
        self._check_length(cache.get_seq_length() + ids.shape[1])
        output = self.model(input_ids=ids.to(self.device), past_key_values=cache, use_cache=True)
        return output.logits, output.past_key_values

    def _check_length(self, length: int) -> None:
        if self.context_size is not None and length > self.context_size:
            raise QueryError(
                f"the prompt and an identifier have {length} tokens together but {self.name} reads "
                f"{self.context_size}; shorten the query or the history"
            )

    def _grow(
        self, state: TreeState, parents: Int, runs: Sequence[Int], is_open: npt.NDArray[np.bool_]
    ) -> tuple[TreeState, list[torch.Tensor]]:
        """Write a run of tokens behind each row; give the state of the open rows, and each run's hidden states."""
        tree, prompt, node = state.tree[parents], state.prompt[parents], state.node[parents]
        new_node = node.copy()
        hidden: list[torch.Tensor] = [torch.zeros(0)] * len(runs)
        for number in np.unique(tree).tolist():
            for rows in _portions(np.flatnonzero(tree == number), runs, self._most_tokens):
                grown = _Growth(state.trees[number], prompt[rows], node[rows], [runs[row] for row in rows])
                for row, part in zip(rows.tolist(), grown.write(is_open[rows], self._check_length), strict=True):
                    hidden[row] = part
                new_node[rows] = grown.last_nodes  # of tails: never used
        return TreeState(state.trees, tree[is_open], prompt[is_open], new_node[is_open]), hidden

    @property
    def _most_tokens(self) -> int:
        """Give the most tokens of one call: where hidden states are logits, they take memory too."""
        if not isinstance(self.output, WholeLogits):
            return MOST_TOKENS
        return min(MOST_TOKENS, max(1, TAIL_LOGITS_BYTES // (4 * self.vocab_size)))

    def _trial(self) -> bool:
        """Compare tree attention with plain reading on a few tokens, with a window that is shorter than they are."""
        rng = np.random.default_rng(0)
        prompt, (first, second, third) = (
            rng.integers(0, self.vocab_size, 5).tolist(),
            rng.integers(0, self.vocab_size, 3),
        )
        sees, config = self._sees, self.model.config
        try:
            if sees.window is not None:
                self._sees = replace(sees, window=TRIAL_WINDOW)
                config.sliding_window = TRIAL_WINDOW
            runs = [np.array([first]), np.array([second]), np.array([first, third])]
            planted = self._planted([self._plain(prompt)[0]])
            grown = self.read_runs(planted, np.zeros(3, dtype=np.int64), runs)[1][[0, 1, 3]]
            plain = torch.cat([self._plain([*prompt, *path.tolist()])[1] for path in runs])
        except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False
        finally:
            self._sees = sees
            if sees.window is not None:
                config.sliding_window = sees.window
        return _alike(grown, plain, self.model.dtype)

    @torch.inference_mode()
    def _plain(self, ids: list[int]) -> tuple[Cache, torch.Tensor]:
        output = self.body(
            input_ids=torch.tensor([ids], device=self.device), past_key_values=DynamicCache(), use_cache=True
        )
        return output.past_key_values, output[0][:, -1]


class _Growth:
    """Write runs of tokens into one tree, and find each run's nodes and hidden states again."""

    def __init__(self, tree: TokenTree, prompt: Int, node: Int, runs: Sequence[Int]) -> None:
        self._tree, self._prompt, self._node, self._runs = tree, prompt, node, runs
        self._start = np.zeros(len(runs), dtype=np.int64)
        self._lengths = np.array([len(run) for run in runs])
        self.last_nodes = np.where(self._lengths == 0, node, 0)

    def write(self, is_open: npt.NDArray[np.bool_], check: Callable[[int], None]) -> list[torch.Tensor]:
        """Run the model once; give the hidden states behind the tokens of each run."""
        tree = self._tree
        nodes: list[list[int]] = [[] for _ in range(len(tree.lengths))]
        tokens: list[list[int]] = [[] for _ in range(len(tree.lengths))]
        kept = np.zeros(len(tree.lengths), dtype=np.int64)
        first = tree.size
        for row in np.argsort(~is_open, kind="stable").tolist():  # open runs first: they stay, tails are forgotten
            at, run = int(self._prompt[row]), self._runs[row].tolist()
            here = len(nodes[at])
            self._start[row] = here
            if run:
                nodes[at] += [int(self._node[row]), *range(first + here, first + here + len(run) - 1)]
                tokens[at] += run
            kept[at] += len(run) * bool(is_open[row])
            check(int(tree.lengths[at]) + tree.depth(at, int(self._node[row])) + len(run))
        written = self._lengths > 0
        self.last_nodes[written] = (first + self._start + self._lengths - 1)[written]
        if not written.any():
            return [torch.zeros(0)] * len(self._runs)
        hidden = tree.grow(nodes, tokens, int(kept.max()))
        ends = self._start + self._lengths
        return [hidden[at, start:end] for at, start, end in zip(self._prompt, self._start, ends, strict=True)]


def _portions(rows: Int, runs: Sequence[Int], most_tokens: int) -> list[Int]:
    """Split rows so that each call writes at most `most_tokens` tokens (one row at least)."""
    ends, total = [], 0
    for place, row in enumerate(rows.tolist()):
        length = len(runs[row])
        if total and total + length > most_tokens:
            ends.append(place)
            total = 0
        total += length
    return [portion for portion in np.split(rows, ends) if len(portion)]


@torch.inference_mode()
def _parted(model: PreTrainedModel) -> tuple[nn.Module, OutputLayer]:
    """Part a model into its body and its output layer, where a trial shows that the layer is all that follows."""
    body, layer = getattr(model, "base_model", model), model.get_output_embeddings()
    if body is model or not isinstance(layer, torch.nn.Linear):
        return model, WholeLogits()
    ids = torch.tensor([[1, 0, 1]], device=model.device) % layer.weight.shape[0]
    try:
        hidden = body(input_ids=ids, use_cache=False)[0]
        whole = model(input_ids=ids, use_cache=False).logits
        same = _alike(layer(hidden), whole, model.dtype)
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
        same = False
    return (body, OutputLayer(layer)) if same else (model, WholeLogits())


def _alike(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> bool:
    """Tell whether two tensors differ by roundings only."""
    tolerance = 1e-3 if dtype == torch.float32 else 5e-2
    wanted = expected.float()
    return bool(((found.float() - wanted).abs().max() <= tolerance * (1 + wanted.abs().max())).item())
