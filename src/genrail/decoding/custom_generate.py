"""Our beam search as the decoding method of ``generate``: ``model.generate(..., custom_generate=...)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from genrail.constraints.index import ConstraintIndex, Subset
from genrail.decoding.answers import Decoded
from genrail.decoding.beam_search import beam_search
from genrail.decoding.settings import BeamSettings
from genrail.errors import SettingsError
from genrail.models.language_model import AnyModel

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.utils import ModelOutput

__all__ = ["RailsGenerate"]


class RailsGenerate:
    """Decode for a transformers model that somebody else calls.

    ``num_beams`` and ``num_return_sequences`` are obeyed; warpers (temperature, top_k, top_p, penalties) and other
    processors and stopping criteria are not, for the answer is the exact one of `beam_search`: the prompt is read once
    however many beams there are, and the end of an identifier is known.

    Args:
        index: The identifiers that may be written.
        tokenizer: Of the model.
        subsets: Items allowed to each prompt of the batch, or None for all.
        settings: Default `BeamSettings()`; its width gives way to ``num_beams`` where that is above 1.

    Raises:
        SettingsError: When called with another number of prompts than subsets, or without a prompt's ids.
    """

    def __init__(
        self,
        index: ConstraintIndex,
        tokenizer: PreTrainedTokenizerBase,
        subsets: Sequence[Subset | None] | None = None,
        settings: BeamSettings | None = None,
    ) -> None:
        self._index = index
        self._tokenizer = tokenizer
        self._subsets = subsets
        self._settings = settings or BeamSettings()
        self._wrapped: tuple[PreTrainedModel, AnyModel] | None = None

    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: torch.Tensor,
        *,
        generation_config: GenerationConfig,
        inputs_tensor: torch.Tensor | None = None,
        **model_kwargs: object,
    ) -> torch.Tensor | ModelOutput:
        """Decode, as ``generate`` asks; identifiers of equal items come once for each item.

        Returns:
            Token ids (prompts * num_return_sequences, longest), padded; or, with ``return_dict_in_generate``, the
            output of a beam search with `sequences_scores`: sums of log-probabilities, no length penalty.
        """
        copies = max(1, generation_config.num_return_sequences or 1)
        repeated = max(copies, generation_config.num_beams or 1)  # how often `generate` has repeated each prompt
        width = generation_config.num_beams if (generation_config.num_beams or 1) > 1 else self._settings.width
        ids = inputs_tensor if model.config.is_encoder_decoder else input_ids
        mask = cast(
            "torch.Tensor | None", model_kwargs.get("attention_mask")
        )  # a parameter would be taken from the model
        prompts = self._prompts(ids, mask, len(input_ids) // repeated)
        settings = BeamSettings(**{**vars(self._settings), "width": width})
        answers = beam_search(self._model(model), prompts, self._index, settings, self._subsets, k=copies)
        return self._output(model, input_ids[::repeated], answers, generation_config)

    def _model(self, model: PreTrainedModel) -> AnyModel:
        from genrail.models.checkpoints import wrap

        if self._wrapped is None or self._wrapped[0] is not model:
            self._wrapped = (model, wrap(model, self._tokenizer))
        return self._wrapped[1]

    def _prompts(self, ids: torch.Tensor | None, mask: torch.Tensor | None, count: int) -> list[list[int]]:
        """Take the padding off; of rows that were repeated for the beams, the first."""
        if ids is None or ids.dtype.is_floating_point:
            raise SettingsError("give the prompt as input_ids; embeddings cannot be read here")
        mask = torch.ones_like(ids) if mask is None else mask
        ids, mask = (part[:: max(1, len(part) // count)] for part in (ids, mask))
        rows = [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]
        if self._subsets is None:
            return rows
        if len(rows) != len(self._subsets):
            raise SettingsError(f"{len(rows)} prompts but {len(self._subsets)} subsets; give one subset per prompt")
        return rows

    @staticmethod
    def _output(
        model: PreTrainedModel, starts: torch.Tensor, answers: list[Decoded], generation_config: GenerationConfig
    ) -> torch.Tensor | ModelOutput:
        copies = max(1, generation_config.num_return_sequences or 1)
        pad = generation_config.pad_token_id
        pad = 0 if pad is None else int(pad)
        longest = max((len(tokens) for answer in answers for tokens in answer.tokens), default=0)
        written = torch.full((len(answers) * copies, longest), pad, dtype=starts.dtype)
        scores = np.full(len(written), -np.inf)
        for query, answer in enumerate(answers):
            for place, tokens in enumerate(answer.tokens):
                written[query * copies + place, : len(tokens)] = torch.tensor(tokens, dtype=starts.dtype)
                scores[query * copies + place] = answer.log_probabilities[place]
        sequences = torch.cat([starts.repeat_interleave(copies, dim=0), written.to(starts.device)], dim=1)
        if not generation_config.return_dict_in_generate:
            return sequences
        from transformers.generation import GenerateBeamDecoderOnlyOutput, GenerateBeamEncoderDecoderOutput

        kind = GenerateBeamEncoderDecoderOutput if model.config.is_encoder_decoder else GenerateBeamDecoderOnlyOutput
        return kind(sequences=sequences, sequences_scores=torch.from_numpy(scores).float().to(starts.device))
