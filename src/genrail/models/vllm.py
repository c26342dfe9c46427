"""vLLM as a language model: exact scores of the tokens on the rails, one request for each beam and step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from genrail.errors import MissingPackageError, SettingsError
from genrail.models.tokenizer_fingerprint import tokenizer_fingerprint
from genrail.types import Json

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput
    from vllm.logprobs import Logprob

__all__ = [
    "CHILDREN",
    "START",
    "TRIE",
    "VllmContext",
    "VllmModel",
    "let_vllm_look_around",
    "open_vllm",
    "score_candidates",
]

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

CHILDREN = "genrail_children"  # of extra_args: the tokens allowed next, for requests of one token
START = "genrail_start"  # of extra_args: tokens of the prompt; what follows is walked through the trie
TRIE = "genrail_trie"  # of additional_config: folder of a saved trie
PROCESSORS = {
    "v1": "genrail.decoding.vllm_rails:RailsProcessor",
    "v2": "genrail.decoding.vllm_rails:DeviceRailsProcessor",
}


def open_vllm(
    model: str | Path,
    trie: str | Path | None = None,
    width: int = 20,
    runner: Literal["v1", "v2"] = "v1",
    **settings: object,
) -> LLM:
    """Start a vLLM engine whose answers can be kept on rails.

    Its processor turns a row of logits into log-probabilities and sets all but the allowed tokens to -inf; the engine
    reports them as they are. Requests without our arguments are not touched.

    Args:
        model: Folder or hub name.
        trie: Folder of a saved `Trie`, for requests that are kept on rails by themselves (n-best sampling).
        width: Most beams of a search; it reads 2 * width log-probabilities.
        runner: Which model runner of vLLM will be used: `v1`, or `v2`, the default on CUDA since 0.32.
        settings: Handed to ``vllm.LLM``.

    Raises:
        MissingPackageError: vLLM is not installed.
        SettingsError: An unknown runner.
    """
    if runner not in PROCESSORS:
        raise SettingsError(f"runner is {runner!r}; give 'v1' or 'v2'")
    try:
        from vllm import LLM
    except ImportError as error:
        raise MissingPackageError("vllm", "vllm", "The vLLM lane") from error
    let_vllm_look_around()
    own = {"additional_config": {TRIE: str(trie)}} if trie is not None else {}
    defaults = {"logprobs_mode": "processed_logits", "max_logprobs": 2 * width, "enable_prefix_caching": True, **own}
    return LLM(model=str(model), logits_processors=[PROCESSORS[runner]], **{**defaults, **settings})


def let_vllm_look_around() -> None:
    """Let vLLM look at all modules, as it does when it starts: llvmlite's library has no dictionary, but acts as if.

    vLLM 0.32 calls ``vars`` on every object of every module; llvmlite 0.47 answers with a function of that name.
    """
    library = getattr(sys.modules.get("llvmlite.binding.ffi"), "lib", None)
    known = getattr(library, "_fntab", None)
    if isinstance(known, dict):
        known["__dict__"] = {}


@dataclass(frozen=True)
class VllmContext:
    """Hold one request: its prompt, and which tokens may follow what is written of the answer."""

    prompt: tuple[int, ...]
    allowed: Callable[[Sequence[int]], Int]


@dataclass(frozen=True)
class Written:
    """Remember the context of each row and what it has written."""

    contexts: tuple[VllmContext, ...]
    tokens: tuple[tuple[int, ...], ...]


class VllmModel:
    """Give a vLLM engine the form of a `LanguageModel`.

    A row of logits holds the true log-probabilities of the best 2 * width allowed tokens, -inf elsewhere, and in one
    more column whatever probability is left, so that a softmax over the row changes nothing. A beam search of that
    width is therefore exact, whatever the fan-out and the vocabulary.

    Args:
        llm: From `open_vllm`.
        vocab_size: Tokens of the index.
        width: Beams of the search, as for `open_vllm`.

    Cost: a request of one token for each beam and step; the prompt's keys and values come from vLLM's prefix cache.
    """

    keeps_states = True  # a state is a list of tokens
    joins_states = True

    def __init__(self, llm: LLM, vocab_size: int, width: int = 20) -> None:
        self.llm = llm
        self._vocab_size = vocab_size + 1
        self._count = 2 * width

    @property
    def vocab_size(self) -> int:
        """Count the tokens of the index and the column of what is left."""
        return self._vocab_size

    @property
    def fingerprint(self) -> str:
        """Identify the tokenizer; vLLM does not show its weights."""
        return tokenizer_fingerprint(self.llm.get_tokenizer())

    def prefill(self, contexts: Sequence[VllmContext]) -> tuple[Written, Float32]:
        """Read each prompt."""
        state = Written(tuple(contexts), ((),) * len(contexts))
        return state, self._logits(state)

    def step(self, state: Written, parents: Int, tokens: Int) -> tuple[Written, Float32]:
        """Append one token to each row; older states stay usable."""
        pairs = list(zip(parents.tolist(), tokens.tolist(), strict=True))
        after = Written(
            tuple(state.contexts[parent] for parent, _ in pairs),
            tuple((*state.tokens[parent], token) for parent, token in pairs),
        )
        return after, self._logits(after)

    def join(self, states: Sequence[Written]) -> tuple[Written, list[int]]:
        """Put the rows of several states into one; give it, and the row at which each of them begins."""
        first = np.cumsum([0, *(len(state.tokens) for state in states)])[:-1].tolist()
        contexts = tuple(context for state in states for context in state.contexts)
        return Written(contexts, tuple(tokens for state in states for tokens in state.tokens)), first

    def describe(self) -> dict[str, Json]:
        """Give name and settings."""
        return {"model": "vLLM", "vocab_size": self.vocab_size, "logprobs": self._count}

    def _logits(self, state: Written) -> Float32:
        from vllm import SamplingParams

        prompts, parameters = [], []
        for context, tokens in zip(state.contexts, state.tokens, strict=True):
            children = [int(token) for token in context.allowed(tokens)]
            prompts.append({"prompt_token_ids": [*context.prompt, *tokens]})
            parameters.append(
                SamplingParams(
                    max_tokens=1,
                    temperature=0.0,
                    ignore_eos=True,
                    detokenize=False,
                    skip_clone=True,
                    logprobs=min(self._count, len(children)),
                    extra_args={CHILDREN: children},
                )
            )
        outputs = self.llm.generate(prompts, parameters, use_tqdm=False) if prompts else []
        return filled_rows([_first_step(output) for output in outputs], self._vocab_size)


def filled_rows(found: Sequence[dict[int, float]], width: int) -> Float32:
    """Spread log-probabilities over rows, and put what is left of each row's probability into the last column.

    >>> rows = filled_rows([{0: float(np.log(0.5)), 2: float(np.log(0.25))}], 4)
    >>> np.exp(rows).round(2).tolist()
    [[0.5, 0.0, 0.25, 0.25]]
    """
    rows = np.full((len(found), width), -np.inf, dtype=np.float32)
    for row, scores in zip(rows, found, strict=True):
        tokens = np.fromiter(scores.keys(), np.int64, len(scores))
        values = np.fromiter(scores.values(), np.float64, len(scores))
        row[tokens] = values
        left = 1.0 - np.exp(values).sum()
        row[-1] = np.log(left) if left > 0 else -np.inf
    return rows


def _first_step(output: RequestOutput) -> dict[int, float]:
    [step] = output.outputs[0].logprobs
    return {token: entry.logprob for token, entry in step.items() if np.isfinite(entry.logprob)}


def score_candidates(llm: LLM, prompt: Sequence[int], sequences: Sequence[Sequence[int]]) -> npt.NDArray[np.float64]:
    """Give the log-probability of each sequence after a prompt, under the model's full softmax.

    For a hundred candidates at most: vLLM reads no prefix cache for such requests, so each reads the prompt again.

    Args:
        llm: A ``vllm.LLM`` that reports log-probabilities, as it does by default; of `open_vllm`, one that was given
            ``logprobs_mode="raw_logprobs"``, for what a search reads are masked logits.
        prompt: Token ids.
        sequences: Token ids of each candidate, one at least.

    Returns:
        float64, one for each sequence.

    Raises:
        SettingsError: The engine reports logits.
    """
    from vllm import SamplingParams

    mode = str(llm.llm_engine.model_config.logprobs_mode)
    if "logits" in mode:
        raise SettingsError(
            f'this engine reports {mode}; open one with logprobs_mode="raw_logprobs" to score candidates'
        )

    parameters = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, prompt_logprobs=0)
    prompts = [{"prompt_token_ids": [*prompt, *map(int, sequence)]} for sequence in sequences]
    outputs = llm.generate(prompts, parameters, use_tqdm=False) if prompts else []
    return np.array(
        [
            _sum_behind(output.prompt_logprobs, len(prompt), sequence)
            for output, sequence in zip(outputs, sequences, strict=True)
        ]
    )


def _sum_behind(steps: Sequence[Mapping[int, Logprob]], first: int, sequence: Sequence[int]) -> float:
    """Add up the log-probabilities of the tokens behind the prompt."""
    pairs = zip(steps[first:], sequence, strict=True)
    return float(sum(step[int(token)].logprob for step, token in pairs))
