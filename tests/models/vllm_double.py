"""Stand in for vLLM: its documented interface, computed by transformers; what our processor does to logits is real."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from genrail.decoding.vllm_rails import RailsProcessor, put_on_rails
from genrail.models.vllm import CHILDREN


@dataclass
class SamplingParams:
    """Hold what a request asks for; unknown names are refused."""

    max_tokens: int = 16
    temperature: float = 1.0
    ignore_eos: bool = False
    detokenize: bool = True
    skip_clone: bool = False
    logprobs: int | None = None
    extra_args: dict = field(default_factory=dict)


class LLM:
    """Answer requests of one token."""

    opened = []  # the settings of each one

    def __init__(self, model, dtype="auto", **settings):
        if settings.get("max_model_len", 1) < 1:
            raise ValueError("1 validation error for ModelConfig: max_model_len")
        LLM.opened.append({"model": model, "dtype": dtype, **settings})
        self.calls = []  # requests of each call
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        vocabulary = self._model.config.vocab_size
        length = settings.get("max_model_len") or self._model.config.max_position_embeddings
        config = SimpleNamespace(
            model=str(model), get_vocab_size=lambda: vocabulary, max_model_len=length, dtype=self._model.dtype
        )
        self.llm_engine = SimpleNamespace(model_config=config)

    def get_tokenizer(self):
        """Give the tokenizer."""
        return self._tokenizer

    @torch.inference_mode()
    def generate(self, prompts, sampling_params, use_tqdm=True):
        """Give the best log-probabilities of each request, as many as it asks for."""
        self.calls.append(len(prompts))
        return [self._answer(*pair) for pair in zip(prompts, sampling_params, strict=True)]

    def _answer(self, prompt, parameters):
        assert (parameters.max_tokens, parameters.temperature) == (1, 0.0)
        RailsProcessor.validate_params(parameters)
        logits = self._model(input_ids=torch.tensor([prompt["prompt_token_ids"]])).logits[:, -1].float()
        if CHILDREN in parameters.extra_args:
            put_on_rails(logits, [0], [parameters.extra_args[CHILDREN]])
        count = logits.shape[1] if parameters.logprobs == -1 else parameters.logprobs
        values, tokens = logits[0].topk(count)
        pairs = zip(tokens.tolist(), values.tolist(), strict=True)
        step = {token: SimpleNamespace(logprob=value) for token, value in pairs}
        return SimpleNamespace(outputs=[SimpleNamespace(logprobs=[step])])
