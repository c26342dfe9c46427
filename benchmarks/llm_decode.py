"""Compare genrail's beam search with `generate` of transformers, with and without a constraint, side by side.

    python benchmarks/llm_decode.py --prompt 32 400 --beams 5 20 50

A random Qwen2-like model (nothing about speed depends on the weights, but the order of titles does: a random model is
the hard case, as it is sure of nothing) and seeded synthetic titles: Zipf-distributed words behind Zipf-distributed
brands. All contenders run turn by turn in one process; ratios are medians over the turns. `cpu` is the processor time
of the process, which a busy machine disturbs less than wall time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search
from genrail.models.causal import CausalModel
from genrail.rng import generator

END = 2


def make_titles(count: int, vocab_size: int, seed: int) -> list[list[int]]:
    """Draw token sequences of 5 to 25 tokens with the end token; brands and words follow Zipf's law."""
    rng = generator(seed, "benchmark", "titles")
    lengths = rng.integers(4, 25, size=count)
    words = np.minimum(rng.zipf(1.3, size=int(lengths.sum())), vocab_size - 10) + 5
    brands = np.minimum(rng.zipf(1.2, size=count), vocab_size - 10) + 5
    ends = np.cumsum(lengths)
    return [
        [int(brand), *words[end - length : end].tolist(), END]
        for brand, end, length in zip(brands, ends, lengths, strict=True)
    ]


class EndlessTokenizer:
    """Stand in for a tokenizer: the benchmark starts from token ids."""

    eos_token_id = END


def make_model(arguments: argparse.Namespace) -> Any:
    """Build the random model."""
    torch.manual_seed(arguments.seed)
    config = Qwen2Config(
        vocab_size=arguments.vocab,
        hidden_size=arguments.hidden,
        intermediate_size=4 * arguments.hidden,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.hidden // 64,
        num_key_value_heads=arguments.hidden // 64,
        max_position_embeddings=2048,
        eos_token_id=END,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config).eval()


def dict_trie(titles: list[list[int]]) -> dict[int, Any]:
    """Nest dicts, as the public implementations of GENRE do."""
    root: dict[int, Any] = {}
    for title in titles:
        node = root
        for token in title:
            node = node.setdefault(token, {})
    return root


def allowed_by(root: dict[int, Any], prompt_length: int) -> Any:
    """Walk the dicts from the root for each beam and step."""

    def allowed(_: int, ids: torch.Tensor) -> list[int]:
        node: dict[int, Any] | None = root
        for token in ids[prompt_length:].tolist():
            node = node.get(token) if node else None
        return list(node) if node else [END]

    return allowed


def clocked(run: Any) -> tuple[float, float, Any]:
    """Run once; give wall seconds, processor seconds and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def generate(model: Any, prompt: list[int], width: int, length: int, allowed: Any) -> Any:
    """Search with transformers; without a constraint exactly `length` tokens are written."""
    free = {} if allowed is not None else {"min_new_tokens": length}
    with torch.inference_mode():
        return model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            num_beams=width,
            num_return_sequences=min(width, 10),
            max_new_tokens=length,
            prefix_allowed_tokens_fn=allowed,
            length_penalty=0.0,
            do_sample=False,
            eos_token_id=END,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
            **free,
        )


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run every shape."""
    titles = make_titles(arguments.titles, arguments.vocab, arguments.seed)
    longest = max(map(len, titles))
    index = Trie.from_sequences(titles, arguments.vocab, end_token=END)
    root = dict_trie(titles)
    built = make_model(arguments)
    model = CausalModel(built, EndlessTokenizer(), "random")
    forwards = [0]
    built.register_forward_hook(lambda *_: forwards.__setitem__(0, forwards[0] + 1))
    rng = generator(arguments.seed, "benchmark", "prompt")
    rows = []
    for prompt_length in arguments.prompt:
        prompt = rng.integers(5, arguments.vocab, size=prompt_length).tolist()
        for width in arguments.beams:
            k = min(width, 10)

            def ours(jump: bool, prompt: list[int] = prompt, width: int = width, k: int = k) -> Any:
                settings = BeamSettings(width=width, finish="width", jump_tails=jump)
                return beam_search(model, [prompt], index, settings, k=k)[0]

            contenders = {
                "genrail": lambda ours=ours: ours(True),
                "genrail, no tail jump": lambda ours=ours: ours(False),
                "generate + dict": lambda p=prompt, w=width: generate(built, p, w, longest, allowed_by(root, len(p))),
                "generate, no constraint": lambda p=prompt, w=width: generate(built, p, w, longest, None),
            }
            rows.append(_shape(arguments, contenders, prompt_length, width, longest, forwards))
            print(json.dumps(rows[-1]), flush=True)
    return rows


def _shape(
    arguments: argparse.Namespace,
    contenders: dict[str, Any],
    prompt_length: int,
    width: int,
    longest: int,
    forwards: list[int],
) -> dict[str, Any]:
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    calls, results = {}, {}
    for turn in range(arguments.turns + 1):
        for name, run in contenders.items():
            forwards[0] = 0
            wall, cpu, results[name] = clocked(run)
            calls[name] = forwards[0]
            if turn:  # the first turn warms up
                seconds[name].append((wall, cpu))
    ours, theirs = results["genrail"], results["generate + dict"]
    difference = np.abs(ours.log_probabilities - theirs.sequences_scores.numpy()[: len(ours)]).max()
    row = {
        "prompt": prompt_length,
        "beams": width,
        "longest_title": longest,
        "largest_score_difference": float(difference),
        "forwards": calls,
    }
    own = seconds["genrail"]
    for clock, name in ((0, "wall"), (1, "cpu")):
        times: dict[str, float] = {}
        ratios: dict[str, float] = {}
        for contender, pairs in seconds.items():
            times[contender] = round(statistics.median(pair[clock] for pair in pairs), 3)
            ratios[contender] = round(
                statistics.median(pair[clock] / ours_pair[clock] for pair, ours_pair in zip(pairs, own, strict=True)), 2
            )
        row[f"{name}_seconds"], row[f"{name}_ratio_to_genrail"] = times, ratios
    return row


def main() -> None:
    """Read the command line, print hardware, versions and one JSON line per shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, nargs="+", default=[32, 400])
    parser.add_argument("--beams", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--titles", type=int, default=100_000)
    parser.add_argument("--vocab", type=int, default=32_000)
    parser.add_argument("--hidden", type=int, default=768, help="768 with 12 layers: 138 M parameters")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        json.dumps(
            {
                "command": " ".join(sys.argv),
                "machine": platform.processor() or platform.machine(),
                "threads": arguments.threads,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            }
        )
    )
    measure(arguments)


if __name__ == "__main__":
    main()
