"""Encoder-decoder language models (T5, BART, ...) behind the `LanguageModel` protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from genrail.errors import SettingsError
from genrail.models.beam_rows import RowsState, step_rows
from genrail.models.checkpoint_model import CheckpointModel, to_numpy
from genrail.types import Json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import Cache

__all__ = ["Seq2SeqModel"]

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

TAIL_LOGITS_BYTES = 256 * 2**20  # logits of forced tails held at once


class Seq2SeqModel(CheckpointModel):
    """Answer a prompt with an identifier.

    The encoder reads each prompt once, alone; its beams share the encoder's output and the cross-attention keys and
    values without copies. Only the decoder's own short cache has a row for each beam. Of the generation configuration,
    one thing is obeyed: a forced first token (BART, mBART), which is a part of the format and not of the search.

    Args:
        model: A transformers encoder-decoder with a language modelling head.
        tokenizer: Its tokenizer object.
        name: For reports.

    Raises:
        SettingsError: The configuration names no first token of the decoder.
    """

    family = "seq2seq"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str = "") -> None:
        super().__init__(model, tokenizer, name)
        generation = getattr(model, "generation_config", None)
        start = getattr(generation, "decoder_start_token_id", None)
        start = getattr(model.config, "decoder_start_token_id", None) if start is None else start
        if start is None:
            raise SettingsError(f"{self.name} has no decoder_start_token_id in its configuration; set it there")
        forced = getattr(generation, "forced_bos_token_id", None)
        self._start = [int(start)] if forced is None else [int(start), int(forced)]

    def prefill(self, contexts: Sequence[Sequence[int]]) -> tuple[RowsState, Float32]:
        """Encode each prompt, a list of token ids, once, and start the decoder.

        Raises:
            QueryError: A prompt is empty, or longer than the model's context; nothing is ever cut.
        """
        self._check_prompts(contexts)
        read = [self._read(context) for context in contexts]
        rows = np.arange(len(contexts))
        logits = np.concatenate([row for _, _, row in read]) if read else np.zeros((0, self.vocab_size), np.float32)
        prompts = tuple(encoded for encoded, _, _ in read)
        return RowsState(prompts, tuple(cache for _, cache, _ in read), rows, np.zeros_like(rows)), logits

    def step(self, state: RowsState, parents: Int, tokens: Int) -> tuple[RowsState, Float32]:
        """Append one token to each row; older states stay usable."""
        after, logits, _ = self.step_tails(state, parents, tokens, [np.zeros(0, dtype=np.int64)] * len(parents))
        return after, logits

    @torch.inference_mode()
    def step_tails(
        self, state: RowsState, parents: Int, tokens: Int, tails: Sequence[Int]
    ) -> tuple[RowsState, Float32, list[Float64]]:
        """Append one token to each row, and score the tail behind it; state and logits are of the open rows alone."""
        most_tokens = max(1, TAIL_LOGITS_BYTES // (4 * self.vocab_size))
        return step_rows(self._decode, state, parents, tokens, tails, most_tokens)

    def describe(self) -> dict[str, Json]:
        """Give name, parameters and settings."""
        return {**super().describe(), "family": self.family}

    @torch.inference_mode()
    def _read(self, context: Sequence[int]) -> tuple[torch.Tensor, Cache, Float32]:
        """Run the encoder over one prompt, and the decoder over its first tokens."""
        ids = torch.tensor([list(context)], device=self.device)
        encoded = self.model.get_encoder()(input_ids=ids).last_hidden_state
        logits, cache = self._decode(encoded, torch.tensor([self._start]), None)
        return encoded, cache, to_numpy(logits[:, -1])

    def _decode(self, encoded: torch.Tensor, ids: torch.Tensor, cache: Cache | None) -> tuple[torch.Tensor, Cache]:
        output = self.model(
            encoder_outputs=(encoded.expand(len(ids), -1, -1),),
            decoder_input_ids=ids.to(self.device),
            past_key_values=cache,
            use_cache=True,
        )
        return output.logits, output.past_key_values
