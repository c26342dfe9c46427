"""What every Hugging Face checkpoint behind the `LanguageModel` protocol has in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from genrail.errors import LogitsError, QueryError
from genrail.models.at_hand import PART
from genrail.models.tokenizer_fingerprint import tokenizer_fingerprint
from genrail.types import Json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["CheckpointModel", "tail_log_probabilities", "to_numpy"]

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

ROWS_TOGETHER = 16  # rows of logits copied at once: 10 MB of a vocabulary of 152,000


class CheckpointModel:
    """Hold the weights and the tokenizer of one checkpoint.

    Args:
        model: A transformers model, in evaluation mode on its device.
        tokenizer: Its tokenizer object: the one that titles are encoded with.
        name: For reports.
    """

    keeps_states = True  # `step` leaves older states usable

    @property
    def joins_states(self) -> bool:
        """Tell whether `join` can put rows of different length into one state, as exact search likes."""
        return False

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str = "") -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name or type(model).__name__
        self.device = model.device
        self._vocab_size = int(model.get_output_embeddings().weight.shape[0])
        self._parameters = sum(weights.numel() for weights in model.parameters())

    @property
    def vocab_size(self) -> int:
        """Give the width of a row of logits; it may exceed the tokenizer's vocabulary (padded heads)."""
        return self._vocab_size

    @property
    def context_size(self) -> int | None:
        """Give the most tokens that the model can read, prompt and answer together; None if it has no limit."""
        config = self.model.config
        size = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        return int(size) if size else None

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """List the tokens that end a text, the tokenizer's own first. An identifier ends with the first."""
        config = getattr(self.model, "generation_config", None)
        others = getattr(config, "eos_token_id", None) or []
        found = [self.tokenizer.eos_token_id, *([others] if isinstance(others, int) else others)]
        return tuple(dict.fromkeys(int(token) for token in found if token is not None))

    @cached_property
    def fingerprint(self) -> str:
        """Identify weights, configuration and tokenizer by content.

        Cost: reads all weights once, then is remembered.
        """
        digest = hashlib.sha256(tokenizer_fingerprint(self.tokenizer).encode())
        config = self.model.config.to_dict()
        # Saving writes some of these into the very object that is saved; none changes what the model computes.
        for volatile in ("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype"):
            config.pop(volatile, None)
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write weights and tokenizer as an ordinary checkpoint, in parts that can be let go one by one."""
        self.model.save_pretrained(folder, max_shard_size=PART)
        self.tokenizer.save_pretrained(folder)

    def describe(self) -> dict[str, Json]:
        """Give name, parameters and settings."""
        return {
            "model": self.name,
            "class": type(self.model).__name__,
            "parameters": self._parameters,
            "vocab_size": self.vocab_size,
            "context_size": self.context_size,
            "device": str(self.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }

    def _check_prompts(self, contexts: Sequence[Sequence[int]]) -> None:
        """Refuse prompts that the model cannot read whole."""
        for place, context in enumerate(contexts):
            if not len(context):
                raise QueryError(f"prompt {place} is empty; a prompt needs a token at least")
            if self.context_size is not None and len(context) >= self.context_size:
                raise QueryError(
                    f"prompt {place} has {len(context)} tokens but {self.name} reads {self.context_size}, the answer "
                    "included; shorten the query or the history"
                )


def to_numpy(logits: torch.Tensor) -> Float32:
    """Bring logits of any precision to float32 on the CPU; no copy where they are that already."""
    return logits.detach().float().cpu().numpy()


def tail_log_probabilities(logits: torch.Tensor, tokens: torch.Tensor) -> Float64:
    """Give the log-probability of one token for each row of logits, by the rules of the constraint index.

    Args:
        logits: Shape (rows, V). NaN counts as -inf.
        tokens: Shape (rows,).

    Raises:
        LogitsError: A logit is +inf.
    """
    if len(logits) > ROWS_TOGETHER:  # the copies below would be as large as the logits
        pairs = zip(torch.split(logits, ROWS_TOGETHER), torch.split(tokens, ROWS_TOGETHER), strict=True)
        return np.concatenate([tail_log_probabilities(*pair) for pair in pairs])
    logits = logits.detach().float()
    logits = torch.where(torch.isnan(logits), -torch.inf, logits)
    total = torch.logsumexp(logits, dim=-1)
    if torch.isposinf(total).any():
        row = int(torch.isposinf(total).nonzero()[0])
        raise LogitsError(f"a logit of row {row} is +inf; check the model's weights and precision")
    chosen = logits.gather(-1, tokens[:, None])[:, 0]
    scores = torch.where(torch.isneginf(total), total, chosen - total)  # nothing is probable in a row of -inf
    return scores.double().cpu().numpy()
