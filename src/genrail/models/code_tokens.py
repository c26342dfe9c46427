"""Semantic IDs as words of a language model: one new token for each code of each level."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from genrail.errors import DamagedError, SettingsError, ShapeError, StateError
from genrail.models.beam_rows import RowsState
from genrail.models.causal import CausalModel, TreeState
from genrail.models.plain_text import plain_tokens
from genrail.types import Json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["CodeModel", "CodeState", "CodeTokens", "add_code_tokens"]

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

PAGE = "code_tokens.json"
SPREAD = 0.02  # of the noise that tells codes apart whose texts are the same, relative to the embeddings' own spread


@dataclass(frozen=True)
class CodeTokens:
    """Say where the tokens of the codes stand: that of code c at level l is ``first + l * codes + c``.

    Args:
        first: Id of the first of them.
        levels: Codes of an identifier.
        codes: Size of the largest codebook.
    """

    first: int
    levels: int
    codes: int

    @property
    def texts(self) -> list[str]:
        """Write the tokens, in the order of their ids.

        >>> CodeTokens(100, 2, 2).texts
        ['<sid_0_0>', '<sid_0_1>', '<sid_1_0>', '<sid_1_1>']
        """
        return [f"<sid_{level}_{code}>" for level in range(self.levels) for code in range(self.codes)]


@torch.no_grad()
def add_code_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    codes: npt.ArrayLike,
    texts: Sequence[str],
    vocab_size: int | None = None,
    seed: int = 0,
) -> CodeTokens:
    """Give a causal model a token for every code of every level, in place.

    A new token begins as the mean of what the words of its items look like to the model (their input embeddings, and
    where the output layer is another matrix, their rows of that), plus a little noise; a code of no item, as the mean
    of all words. The tokens are special, so nobody can write one in a title or a query.

    Args:
        model: A transformers causal language model.
        tokenizer: Its tokenizer.
        codes: Of each item, integers, shape (items, levels).
        texts: Title of each item.
        vocab_size: Codes of each level; default: the largest code plus one.
        seed: Of the noise.

    Raises:
        ShapeError: Not one text for each row of codes.
        SettingsError: The tokenizer knows such tokens already, or a code is outside `vocab_size`.

    Source: new tokens for codes as in LC-Rec (Zheng et al. 2024); means of texts as their beginning as in Hewitt 2021,
    Initializing New Word Embeddings for Pretrained Language Models, here for each code apart.
    """
    matrix = np.asarray(codes, dtype=np.int64)
    if matrix.ndim != 2 or len(matrix) != len(texts):
        raise ShapeError(f"codes have shape {matrix.shape} but there are {len(texts)} texts; give one row of each")
    size = int(matrix.max(initial=0)) + 1 if vocab_size is None else vocab_size
    if matrix.size and not 0 <= matrix.min() <= matrix.max() < size:
        raise SettingsError(f"codes go from {matrix.min()} to {matrix.max()}; vocab_size is {size}")
    words = plain_tokens(tokenizer, texts)
    before = len(tokenizer)
    made = CodeTokens(before, matrix.shape[1], size)
    if tokenizer.add_tokens(made.texts, special_tokens=True) != len(made.texts):
        raise SettingsError("this tokenizer has code tokens already; begin with a fresh copy of the checkpoint")
    head = model.get_output_embeddings()
    tied = head.weight is model.get_input_embeddings().weight
    if model.get_input_embeddings().weight.shape[0] < len(tokenizer):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    bags = _bags(matrix, words, made)
    generator = torch.Generator().manual_seed(seed)
    _fill(model.get_input_embeddings().weight, made, bags, before, generator)
    if not tied:
        _fill(model.get_output_embeddings().weight, made, bags, before, generator)
    return made


def _bags(codes: Int, words: list[list[int]], made: CodeTokens) -> dict[int, list[int]]:
    """Collect the words of all items of each code, by the number of its token."""
    bags: dict[int, list[int]] = {}
    for row, own in zip(codes.tolist(), words, strict=True):
        for level, code in enumerate(row):
            bags.setdefault(level * made.codes + code, []).extend(own)
    return bags


def _fill(
    weight: torch.Tensor, made: CodeTokens, bags: dict[int, list[int]], known: int, generator: torch.Generator
) -> None:
    everything = weight[:known].float()
    mean, spread = everything.mean(dim=0), float(everything.std())
    for number in range(made.levels * made.codes):
        own = bags.get(number)
        row = everything[own].mean(dim=0) if own else mean
        noise = torch.randn(row.shape, generator=generator).to(row.device) * spread * SPREAD
        weight[made.first + number] = (row + noise).to(weight.dtype)


@dataclass(frozen=True)
class CodeState:
    """Remember what the language model does, and how many codes each row has written."""

    inner: TreeState | RowsState
    level: Int


class CodeModel:
    """Let a causal language model write Semantic IDs: a `LanguageModel` whose vocabulary is the codes.

    The output layer is cut down to the rows of the codes, so a vocabulary of 150,000 words costs nothing; a code's
    probability is that among the codes of its level.

    Args:
        model: A transformers causal language model with code tokens in it.
        tokenizer: Its tokenizer, with the same tokens.
        tokens: From `add_code_tokens`.
        name: For reports.
        settings: Handed to `CausalModel`, such as ``attention``.

    Raises:
        SettingsError: The model or the tokenizer has no such tokens.
    """

    keeps_states = True
    family = "causal"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        tokens: CodeTokens,
        name: str = "",
        **settings: Any,
    ) -> None:
        last = tokens.first + tokens.levels * tokens.codes
        if model.get_input_embeddings().weight.shape[0] < last or len(tokenizer) < last:
            raise SettingsError(f"the model has no tokens up to {last - 1}; call add_code_tokens first")
        self.full = model
        self.tokenizer = tokenizer
        self.tokens = tokens
        self.name = name or type(model).__name__
        self._settings = settings
        self.changed()

    def changed(self) -> None:
        """Take over new weights of the output layer, after training."""
        self.inner = CausalModel(_with_codes_only(self.full, self.tokens), self.tokenizer, self.name, **self._settings)

    @property
    def vocab_size(self) -> int:
        """Count the codes of a level: the width of a row of logits."""
        return self.tokens.codes

    @property
    def joins_states(self) -> bool:
        """Tell whether `join` can put rows of different length into one state."""
        return self.inner.joins_states

    @property
    def fingerprint(self) -> str:
        """Identify weights, tokenizer and codes by content."""
        own = f"{self.inner.fingerprint} {self.tokens}"
        return hashlib.sha256(own.encode()).hexdigest()

    def prefill(self, contexts: Sequence[Sequence[int]]) -> tuple[CodeState, Float32]:
        """Read each prompt, a list of token ids, once; raises as `CausalModel.prefill`."""
        state, logits = self.inner.prefill(contexts)
        level = np.zeros(len(contexts), dtype=np.int64)
        return CodeState(state, level), self._of_level(logits, level)

    def step(self, state: CodeState, parents: Int, tokens: Int) -> tuple[CodeState, Float32]:
        """Append one code to each row; older states stay usable.

        Raises:
            StateError: A row has all its codes already.
        """
        level = state.level[parents]
        if len(level) and int(level.max()) >= self.tokens.levels - 1:
            raise StateError(f"identifiers have {self.tokens.levels} codes; there is nothing to read after the last")
        ids = self.tokens.first + level * self.tokens.codes + np.asarray(tokens, dtype=np.int64)
        inner, logits = self.inner.step(state.inner, parents, ids)
        if not len(level):
            return CodeState(inner, level), np.zeros((0, self.vocab_size), dtype=np.float32)
        return CodeState(inner, level + 1), self._of_level(logits, level + 1)

    def join(self, states: Sequence[CodeState]) -> tuple[CodeState, list[int]]:
        """Put the rows of several states of one prefill into one; see `CausalModel.join`."""
        inner, first = self.inner.join([cast("TreeState", state.inner) for state in states])
        return CodeState(inner, np.concatenate([state.level for state in states])), first

    def describe(self) -> dict[str, Json]:
        """Give name, parameters and settings."""
        return {**self.inner.describe(), "levels": self.tokens.levels, "codes": self.tokens.codes}

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), tokenizer and the place of the code tokens into a folder."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        self.full.save_pretrained(path)
        self.tokenizer.save_pretrained(path)
        page = {**vars(self.tokens), "tokenizer_class": type(self.tokenizer).__name__}
        (path / PAGE).write_text(json.dumps(page, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, **settings: Any) -> CodeModel:
        """Read what `save` wrote.

        Raises:
            DamagedError: The page of the code tokens is missing or unreadable.
            SettingsError: As `load_checkpoint`.
        """
        from genrail.models.checkpoints import load_checkpoint

        path = Path(folder) / PAGE
        try:
            page = json.loads(path.read_text(encoding="utf-8"))
            tokens = CodeTokens(int(page["first"]), int(page["levels"]), int(page["codes"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{path} cannot be read ({error}); save the model again") from error
        loaded: Any = load_checkpoint(folder, tokenizer_class=page["tokenizer_class"])
        return cls(loaded.model, loaded.tokenizer, tokens, loaded.name, **settings)

    def _of_level(self, logits: Float32, level: Int) -> Float32:
        """Pick the logits of each row's own level, (rows, codes)."""
        table = logits.reshape(len(level), self.tokens.levels, self.tokens.codes)
        return np.ascontiguousarray(table[np.arange(len(level)), level])


def _with_codes_only(model: PreTrainedModel, tokens: CodeTokens) -> PreTrainedModel:
    """Make a view of the model whose output layer has the rows of the codes alone; the model itself stays whole."""
    view = copy.copy(model)
    view._modules = dict(model._modules)
    head = model.get_output_embeddings()
    rows = slice(tokens.first, tokens.first + tokens.levels * tokens.codes)
    small = nn.Linear(head.weight.shape[1], tokens.levels * tokens.codes, bias=getattr(head, "bias", None) is not None)
    small = small.to(device=head.weight.device, dtype=head.weight.dtype)
    with torch.no_grad():
        small.weight.copy_(head.weight[rows])
        if small.bias is not None:
            small.bias.copy_(head.bias[rows])
    view.set_output_embeddings(small)
    if model.get_output_embeddings() is not head:
        raise SettingsError(f"{type(model).__name__} keeps its output layer where it cannot be replaced; use titles")
    return view
