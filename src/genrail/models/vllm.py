"""vLLM as a language model: exact scores of the tokens on the rails, one request for each beam and branching."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from genrail.errors import MissingPackageError, QueryError, SettingsError
from genrail.models.tiny_lm import Prefixes
from genrail.models.tokenizer_fingerprint import tokenizer_fingerprint
from genrail.types import Json

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput
    from vllm.logprobs import Logprob

__all__ = [
    "CHILDREN",
    "START",
    "TRIE",
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
    runner: Literal["v1", "v2"] = "v1",
    **settings: object,
) -> LLM:
    """Start a vLLM engine whose answers can be kept on rails.

    Its processor turns a row of logits into log-probabilities and sets all but the allowed tokens to -inf; the engine
    reports them as they are. Requests without our arguments are not touched.

    Args:
        model: Folder or hub name.
        trie: Folder of a saved `Trie`, for requests that are kept on rails by themselves (n-best sampling).
        runner: Which model runner of vLLM will be used: `v1`, or `v2`, the default on CUDA since 0.32.
        settings: Handed to ``vllm.LLM``.

    Raises:
        MissingPackageError: vLLM is not installed.
        SettingsError: An unknown runner, or vLLM refuses the model or a setting.
    """
    if runner not in PROCESSORS:
        raise SettingsError(f"runner is {runner!r}; give 'v1' or 'v2'")
    try:
        from vllm import LLM
    except ImportError as error:
        raise MissingPackageError("vllm", "vllm", "The vLLM lane") from error
    let_vllm_look_around()
    own = {"additional_config": {TRIE: str(trie)}} if trie is not None else {}
    defaults = {"logprobs_mode": "processed_logits", "max_logprobs": -1, "enable_prefix_caching": True, **own}
    try:
        return LLM(model=str(model), logits_processors=[PROCESSORS[runner]], **{**defaults, **settings})
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise SettingsError(f"vLLM cannot open {model}: {reason} (see backend_settings, and vLLM's own log)") from error


def let_vllm_look_around() -> None:
    """Let vLLM look at all modules, as it does when it starts: llvmlite's library has no dictionary, but acts as if.

    vLLM 0.32 calls ``vars`` on every object of every module; llvmlite 0.47 answers with a function of that name.
    """
    library = getattr(sys.modules.get("llvmlite.binding.ffi"), "lib", None)
    known = getattr(library, "_fntab", None)
    if isinstance(known, dict):
        known["__dict__"] = {}


class VllmModel:
    """Give a vLLM engine the form of a `LanguageModel` that reads runs.

    Each branching on the rails is a request of one token whose answer holds the log-probabilities of the allowed
    tokens, all of them, under the model's full softmax; forced tokens are part of the next request. The requests of all
    prompts and beams go to vLLM together. A search by branchings is therefore exact, whatever the fan-out, the meaning
    of the scores and the vocabulary.

    Args:
        llm: From `open_vllm`.
        name: For reports.

    Cost: a request for each beam and branching; keys and values of prompt and beam come from vLLM's prefix cache.
        Searches that ask for whole rows of logits (exact search, sampling) pay for the vocabulary in Python.
    """

    family = "causal"
    keeps_states = True  # a state is a list of tokens
    joins_states = True
    reads_runs = True

    def __init__(self, llm: LLM, name: str = "") -> None:
        self.llm = llm
        self.tokenizer = llm.get_tokenizer()
        config = llm.llm_engine.model_config
        self.folder = Path(config.model)
        self.name = name or self.folder.name
        self.vocab_size = int(config.get_vocab_size())
        self.context_size = int(config.max_model_len)
        self._dtype = str(config.dtype).removeprefix("torch.")

    @cached_property
    def fingerprint(self) -> str:
        """Identify the tokenizer; vLLM does not show its weights."""
        return tokenizer_fingerprint(self.tokenizer)

    def save(self, folder: Path) -> None:
        """Copy the folder that vLLM reads the model from.

        Raises:
            SettingsError: It came from a hub.
        """
        if not self.folder.is_dir():
            raise SettingsError(f"{self.folder} is no folder that could be copied; give the model by its name")
        shutil.copytree(self.folder, folder)

    def prefill(self, contexts: Sequence[Sequence[int]]) -> tuple[Prefixes, Float32]:
        """Read each prompt; give the logits of the whole vocabulary."""
        state, _ = self.open_runs(contexts)
        return state, self._whole_rows(state)

    def step(self, state: Prefixes, parents: Int, tokens: Int) -> tuple[Prefixes, Float32]:
        """Append one token to each row; older states stay usable."""
        after, _ = self.read_runs(state, parents, list(tokens[:, None]))
        return after, self._whole_rows(after)

    def open_runs(self, contexts: Sequence[Sequence[int]]) -> tuple[Prefixes, Prefixes]:
        """Take each prompt; what stands before a token stands for a hidden state. See `RunModel`."""
        state = Prefixes(tuple(tuple(map(int, context)) for context in contexts))
        return state, state

    def read_runs(self, state: Prefixes, parents: Int, runs: Sequence[Int]) -> tuple[Prefixes, Prefixes]:
        """Append several tokens to each row; nothing is computed before logits are asked for. See `RunModel`."""
        return state.grown(parents, runs)

    def logits_of(self, hidden: Prefixes, rows: Int, tokens: Int) -> Float32:
        """Give the log-probability of each token behind what its row has written; see `RunModel`."""
        asked, row = np.unique(rows, return_inverse=True)
        wanted = np.split(tokens[np.argsort(row, kind="stable")], np.cumsum(np.bincount(row))[:-1])
        found = self._ask([hidden.rows[one] for one in asked], [part.tolist() for part in wanted])
        pairs = zip(row.tolist(), tokens.tolist(), strict=True)
        return np.array([found[place].get(token, -np.inf) for place, token in pairs], dtype=np.float32)

    def log_sums(self, hidden: Prefixes, rows: Int) -> npt.NDArray[np.float64]:
        """Give zeros: what `logits_of` gives are log-probabilities already."""
        return np.zeros(len(rows))

    def join(self, states: Sequence[Prefixes]) -> tuple[Prefixes, list[int]]:
        """Put the rows of several states into one; give it, and the row at which each of them begins."""
        return Prefixes.joined(states)

    def describe(self) -> dict[str, Json]:
        """Give name and settings."""
        told: dict[str, Json] = {"vocab_size": self.vocab_size, "context_size": self.context_size}
        return {"model": self.name, "backend": "vllm", "family": self.family, "dtype": self._dtype, **told}

    def _whole_rows(self, state: Prefixes) -> Float32:
        logits = np.full((len(state.rows), self.vocab_size), -np.inf, dtype=np.float32)
        for row, scores in zip(logits, self._ask(state.rows, [None] * len(state.rows)), strict=True):
            row[np.fromiter(scores.keys(), np.int64, len(scores))] = list(scores.values())
        return logits

    def _ask(self, texts: Sequence[tuple[int, ...]], allowed: Sequence[list[int] | None]) -> list[dict[int, float]]:
        """Ask for what may follow each text: log-probabilities of the allowed tokens, or logits of all.

        Raises:
            QueryError: A text is empty, or longer than the model reads.
        """
        from vllm import SamplingParams

        for text in texts:
            if not 0 < len(text) < self.context_size:
                raise QueryError(
                    f"a prompt, with what is written of the answer, has {len(text)} tokens but {self.name} reads 1 to "
                    f"{self.context_size - 1} before the next; shorten the query or the history"
                )
        common = {"max_tokens": 1, "temperature": 0.0, "ignore_eos": True, "detokenize": False, "skip_clone": True}
        parameters = [
            SamplingParams(logprobs=-1, **common)
            if children is None
            else SamplingParams(logprobs=len(children), extra_args={CHILDREN: children}, **common)
            for children in allowed
        ]
        prompts = [{"prompt_token_ids": list(text)} for text in texts]
        outputs = self.llm.generate(prompts, parameters, use_tqdm=False) if prompts else []
        return [_first_step(output) for output in outputs]


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
