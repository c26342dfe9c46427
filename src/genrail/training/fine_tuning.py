"""Fine-tune a language model on rails: it learns which identifiers follow which prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from genrail.constraints.compressed import CompressedTrie
from genrail.errors import SettingsError
from genrail.models.adapters import attach_lora, blocks
from genrail.models.output_layer import OutputLayer
from genrail.models.token_tree import Attention
from genrail.rng import generator
from genrail.training.fine_tuning_settings import ORDER, FineTuning
from genrail.training.loop import LoopReport, Progress, run
from genrail.training.order import order_loss
from genrail.training.packing import Answers, Pack, TrainingExample, packed
from genrail.training.rails import Branchings, contrastive_losses, hidden_states, token_loss

__all__ = ["Learner", "Reader", "fine_tune"]

Int = npt.NDArray[np.int64]

AT_ONCE = 2048  # tokens of prompts between two backward passes: about a megabyte each of a model of 135 M weights


@dataclass(frozen=True, eq=False)
class Reader:
    """Hold the parts of a language model that training reads with.

    Args:
        module: All of it, whose weights learn.
        body: Without the output layer.
        output: The output layer.
        sees: What its layers see; None where it cannot read tries of tokens.
    """

    module: nn.Module
    body: Any
    output: OutputLayer
    sees: Attention | None


class Learner:
    """Let the weights learn that are to learn.

    Args:
        model: A transformers causal language model; changed in place.
        settings: What learns.
        codes: Tokens that `learns="codes"` means; None where there are none.
        seed: Of LoRA's beginnings.

    Raises:
        SettingsError: More blocks are to learn than there are, or codes where there are none.
    """

    def __init__(self, model: Any, settings: FineTuning, codes: range | None = None, seed: int = 0) -> None:
        self.wrapped: Any = None
        self._model = model
        self._hooks: list[Any] = []
        if settings.learns == "all":
            model.requires_grad_(True)
            return
        _, layers = blocks(model)
        wanted = settings.layers or (max(1, len(layers) // 3) if settings.learns == "top" else len(layers))
        if wanted > len(layers):
            raise SettingsError(f"layers is {wanted}, but the model has {len(layers)}; give that or fewer")
        model.requires_grad_(False)
        if settings.learns == "lora":
            self.wrapped = attach_lora(model, settings.rank, len(layers) - wanted, seed)
        elif settings.learns == "top":
            layers[len(layers) - wanted :].requires_grad_(True)
        elif codes is None:
            raise SettingsError("learns is 'codes', but this finder writes words; give 'lora', 'top' or 'all'")
        else:
            self._free_rows(codes)

    def _free_rows(self, tokens: range) -> None:
        """Let gradients reach some rows of the embeddings and of the output layer alone."""
        layers = self._model.get_input_embeddings(), self._model.get_output_embeddings()
        for weights in {id(layer.weight): layer.weight for layer in layers}.values():
            keep = torch.zeros((len(weights), 1), dtype=weights.dtype, device=weights.device)
            keep[tokens.start : tokens.stop] = 1
            weights.requires_grad_(True)
            self._hooks.append(weights.register_hook(lambda gradient, keep=keep: gradient * keep))

    def close(self) -> int:
        """Let go of the weights; give how many learnt."""
        for hook in self._hooks:
            hook.remove()
        return sum(weights.numel() for weights in self._model.parameters() if weights.requires_grad)


def fine_tune(
    reader: Reader,
    examples: Sequence[TrainingExample],
    groups: npt.ArrayLike,
    trie: CompressedTrie,
    settings: FineTuning,
    *,
    validate: Callable[[], Mapping[str, float]] | None = None,
    write: Callable[[Sequence[int]], Sequence[Int]] | None = None,
    focus: npt.NDArray[np.bool_] | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> LoopReport:
    """Train in place: after the prompt of an example, the model should write the identifiers of its items.

    Args:
        reader: The model.
        examples: What follows what.
        groups: Examples with the same number begin alike and are read together, (examples,).
        trie: The identifiers.
        settings: How.
        validate: Measures the model as it stands, see `loop.Task`; None keeps the last weights.
        write: Gives the items that the model as it stands writes for some examples, by their numbers, best first; for
            ``negatives``.
        focus: Rows that may be targets in the second stage, (rows,); None for one stage.
        seed: Of the order.
        progress: Called after each step.

    Raises:
        SettingsError: Nothing to learn from.

    Cost: for each token of a pack two operations a weight forwards, and as many backwards through the blocks that have
    weights to learn above them; LoRA saves the gradients of the weights themselves, a third.
    Source: the loss over the children alone as `native` learns; De Cao et al. 2021, GENRE, for titles.
    """
    task = _Task(reader, examples, np.asarray(groups, dtype=np.int64), trie, settings, validate, seed, focus, write)
    # Decay would move the rows of words, which get no gradient.
    loop = replace(settings.loop, weight_decay=0.0) if settings.learns == "codes" else settings.loop
    with _checkpointing(reader.module, settings.checkpointing):
        return run(task, loop, seed, progress, settings.checkpoint, settings.curve)


@contextmanager
def _checkpointing(module: Any, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        module.gradient_checkpointing_disable()


def _ends(batch: Sequence[TrainingExample], part: Int) -> list[int]:
    """Find where a part of a batch is to be cut, so that a piece reads about `AT_ONCE` tokens: long pasts are many."""
    ends: list[int] = []
    tokens, before = 0, batch[0].prompt
    for place, number in enumerate(part.tolist()):
        prompt = batch[number].prompt
        alike = (one == other for one, other in zip(before, prompt, strict=False))
        shared = sum(takewhile(bool, alike)) if place else 0
        if tokens and tokens + len(prompt) - shared > AT_ONCE:
            ends.append(place)
            tokens, shared = 0, 0
        tokens += len(prompt) - shared
        before = prompt
    return ends


class _Task:
    """What the training loop asks for."""

    def __init__(
        self,
        reader: Reader,
        examples: Sequence[TrainingExample],
        groups: Int,
        trie: CompressedTrie,
        settings: FineTuning,
        validate: Callable[[], Mapping[str, float]] | None,
        seed: int,
        focus: npt.NDArray[np.bool_] | None = None,
        write: Callable[[Sequence[int]], Sequence[Int]] | None = None,
    ) -> None:
        if not examples:
            raise SettingsError("there is nothing to learn from; give queries and qrels, interactions, or texts")
        if not len(trie.depth):
            raise SettingsError("all items have one identifier, so there is nothing to decide; give two items or more")
        beside = settings.recipe == "calrec" or settings.loss in ORDER
        if beside and (reader.sees is None or settings.pack_tokens is None):
            what = "calrec" if settings.recipe == "calrec" else f"the loss {settings.loss}"
            raise SettingsError(f"{what} reads items side by side; give pack_tokens, or a model that shares attention")
        if settings.loss in ORDER and not settings.negatives and max(len(one.rows) for one in examples) < 2:
            raise SettingsError(
                f"the loss {settings.loss} learns an order, and no request has two items or more; give "
                "recipe='distill' with a teacher, judged queries with several items, or negatives"
            )
        self.reader, self.settings, self.seed = reader, settings, seed
        self.examples, self.answers = examples, Answers(trie)
        order = np.argsort(groups, kind="stable")
        self._groups = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
        self._validate, self._write = validate, write
        self._passes: dict[tuple[int, int], Int] = {}
        self._focused: list[Int] | None = None
        if focus is not None:
            kept = [group[[bool(focus[examples[place].rows[0]]) for place in group]] for group in self._groups]
            self._focused = [group for group in kept if len(group)]
            if not self._focused:
                raise SettingsError("focus allows no item that there is something to learn about; give another filter")

    @property
    def module(self) -> nn.Module:
        return self.reader.module

    @property
    def data(self) -> str:
        digest = hashlib.sha256()
        for example in self.examples:
            digest.update(repr((list(example.prompt), list(example.rows), list(example.weights))).encode())
        return digest.hexdigest()

    def epoch(self, number: int) -> list[list[TrainingExample]]:
        """Lay out the number-th portion of passes over all examples of a stage, each pass in an order of its own."""
        groups, number = self._stage(number)
        total = sum(map(len, groups))
        size = min(self.settings.epoch or total, total)
        places = np.arange(number * size, (number + 1) * size)
        numbers = [int(self._pass(groups, int(place // total))[place % total]) for place in places]
        chosen = self._compared(numbers) if self.settings.negatives else [self.examples[one] for one in numbers]
        batch = self.settings.batch
        if self.settings.pack_tokens is not None:
            return [chosen[first : first + batch] for first in range(0, size, batch)]
        chosen.sort(key=lambda example: len(example.prompt))  # rows of about equal length, so that little is padded
        batches = [chosen[first : first + batch] for first in range(0, size, batch)]
        return [batches[place] for place in generator(self.seed, "batches", number).permutation(len(batches))]

    def _compared(self, numbers: Sequence[int]) -> list[TrainingExample]:
        """Put what the model writes wrongly beside what is right, without weight."""
        assert self._write is not None
        self.module.eval()
        compared = []
        for number, rows in zip(numbers, self._write(numbers), strict=True):
            example, most = self.examples[number], self.settings.negatives if self.examples[number].rows else 0
            wrong = [row for row in rows.tolist() if row not in example.rows][:most]
            weights = [*example.weights, *[0.0] * len(wrong)]
            compared.append(replace(example, rows=[*example.rows, *wrong], weights=weights))
        return compared

    def _stage(self, number: int) -> tuple[list[Int], int]:
        """Give the groups of the stage that an epoch belongs to, and its number there."""
        if self._focused is None or number < self.settings.first_epochs:
            return self._groups, number
        return self._focused, number - self.settings.first_epochs

    def _pass(self, groups: list[Int], number: int) -> Int:
        key = (id(groups), number)
        if key not in self._passes:
            order = generator(self.seed, "pass", number).permutation(len(groups))
            self._passes = {key: np.concatenate([groups[place] for place in order])}
        return self._passes[key]

    def cut(self, batch: Sequence[TrainingExample], pieces: int) -> list[tuple[list[TrainingExample], float]]:
        parts = np.array_split(np.arange(len(batch)), min(pieces, len(batch)))
        if self.settings.recipe != "calrec":  # contrast is among all of a batch
            parts = [piece for part in parts for piece in np.split(part, _ends(batch, part))]
        return [([batch[place] for place in part], len(part) / len(batch)) for part in parts]

    def loss(self, batch: Sequence[TrainingExample]) -> Tensor:
        settings, reader = self.settings, self.reader
        packs = self._packs(batch)
        halved = settings.precision == "bfloat16"
        with torch.autocast(reader.body.device.type, dtype=torch.bfloat16, enabled=halved):
            hidden = hidden_states(reader.body, packs, reader.sees).float()
        weight = sum(pack.weight for pack in packs)
        loss = hidden.new_zeros(())
        if any(pack.nodes for pack in packs):
            loss = loss + self._on_rails(hidden, packs)
        if any(pack.tokens for pack in packs):
            loss = loss + token_loss(hidden, packs, reader.output, settings.smoothing)
        if settings.recipe != "calrec":
            return loss / weight
        target, user = contrastive_losses(hidden, packs, settings.temperature)
        share = 1.0 - settings.target_target - settings.user_target
        return (share * loss + settings.target_target * target + settings.user_target * user) / weight

    def _on_rails(self, hidden: Tensor, packs: Sequence[Pack]) -> Tensor:
        """Compute the loss at the branchings, and that of the order of items where it is wanted."""
        settings = self.settings
        found = Branchings(hidden, packs, self.answers.trie, self.reader.output)
        loss = found.loss(settings.smoothing)
        if settings.loss not in ORDER:
            return loss
        order = order_loss(settings.loss, found.candidates(), settings.margin)
        return (1.0 - settings.order_share) * loss + settings.order_share * order

    def _packs(self, batch: Sequence[TrainingExample]) -> list[Pack]:
        settings = self.settings
        size = None if self.reader.sees is None else settings.pack_tokens
        return packed(
            batch,
            self.answers,
            rails=settings.loss != "cross-entropy",
            least=settings.least,
            size=size,
            contrast=settings.recipe == "calrec",
            compare=settings.loss in ORDER,
        )

    def validate(self) -> Mapping[str, float]:
        return {} if self._validate is None else self._validate()
