"""Compare genrail's beam search with `generate` of transformers, with and without a constraint, side by side.

    python benchmarks/llm_decode.py --prompt 32 400 --beams 5 20 50
    python benchmarks/llm_decode.py --memory --prompt 400 --beams 50     peak memory, a process of its own for each
    python benchmarks/llm_decode.py --exact                              model calls of the exact search
    python benchmarks/llm_decode.py --checkpoint SmolLM2-135M --catalog products.csv.gz --beams 20
                                                     a real model and real titles: by branchings, and token by token
    python benchmarks/llm_decode.py --checkpoint SmolLM2-135M --catalog products.csv.gz --beams 20 --prompt 42 319
                                                     the same by branchings, prompts of so many tokens, none kept
    python benchmarks/llm_decode.py --engine shop.genrail                memory of a saved engine, opened and asked

A random Qwen2-like model (nothing about speed depends on the weights, but the order of titles does: a random model is
the hard case, as it is sure of nothing) and seeded synthetic titles: Zipf-distributed words behind Zipf-distributed
brands. All contenders run turn by turn in one process, after a short warm-up; ratios are medians over the turns.
`cpu` is the processor time of the process, which a busy machine disturbs less than wall time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM

from genrail import Engine
from genrail.catalog import Catalog
from genrail.constraints import Trie
from genrail.decoding import BeamSettings, ExactSettings, beam_search, exact_search
from genrail.identifiers.titles import Titles
from genrail.models.causal import CausalModel
from genrail.models.checkpoints import load_checkpoint
from genrail.models.prompts import Prompts
from genrail.models.tiny_lm import NoiseModel
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
    for jump in (True, False):  # warm-up: kernels are compiled, memory is touched
        beam_search(model, [[5] * 8], index, BeamSettings(width=2, jump_tails=jump), k=2)
    generate(built, [5] * 8, 2, 3, allowed_by(root, 8))
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
    for _ in range(arguments.turns):
        for name, run in contenders.items():
            forwards[0] = 0
            wall, cpu, results[name] = clocked(run)
            calls[name] = forwards[0]
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


def measure_memory(arguments: argparse.Namespace) -> None:
    """Run each contender in a process of its own, and compare the most memory they ever held."""
    own = [argument for argument in sys.argv[1:] if argument != "--memory"]
    for prompt_length in arguments.prompt:
        for width in arguments.beams:
            peaks = {}
            for contender in ("loaded", "greedy", "genrail", "generate"):
                call = [sys.executable, sys.argv[0], *own, "--peak", contender, "--prompt", str(prompt_length)]
                done = subprocess.run([*call, "--beams", str(width)], capture_output=True, text=True, check=True)
                peaks[contender] = int(done.stdout.strip().splitlines()[-1])
            row: dict[str, Any] = {"prompt": prompt_length, "beams": width, "peak_megabytes": peaks}
            row["ratio_to_greedy"] = {name: round(peak / peaks["greedy"], 2) for name, peak in peaks.items()}
            print(json.dumps(row), flush=True)


def peak_of(arguments: argparse.Namespace) -> int:
    """Decode once in this process; give its peak resident memory in MB. `loaded` decodes nothing."""
    titles = make_titles(arguments.titles, arguments.vocab, arguments.seed)
    longest = max(map(len, titles))
    index = Trie.from_sequences(titles, arguments.vocab, end_token=END)
    del titles
    built = make_model(arguments)
    model = CausalModel(built, EndlessTokenizer(), "random")
    rng = generator(arguments.seed, "benchmark", "prompt")
    prompt = rng.integers(5, arguments.vocab, size=arguments.prompt[0]).tolist()
    width = arguments.beams[0]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading; Linux
    if arguments.peak == "greedy":
        generate(built, prompt, 1, longest, None)
    elif arguments.peak == "genrail":
        beam_search(model, [prompt], index, BeamSettings(width=width), k=min(width, 10))
    elif arguments.peak == "generate":
        generate(built, prompt, width, longest, None)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def opened(arguments: argparse.Namespace) -> tuple[Any, Catalog, Trie]:
    """Load a real model, and the titles of a catalogue as its tokens."""
    model: Any = load_checkpoint(arguments.checkpoint, dtype=arguments.dtype, packed=True)
    catalog = Catalog.read(arguments.catalog)
    table = Titles(model.tokenizer).assign(catalog.titles, catalog.item_ids)
    return model, catalog, Trie.from_flat(table.tokens, table.offsets, table.vocab_size, table.end_token)


def measure_checkpoint(arguments: argparse.Namespace) -> None:
    """Search by branchings and token by token with a real model, on queries made of a title's last words."""
    model, catalog, index = opened(arguments)
    prompts = Prompts(model.tokenizer)
    model.remember_prefix(prompts.shared_prefix())
    calls = [0]
    model.body.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    chosen = generator(arguments.seed, "benchmark", "queries").choice(len(catalog), arguments.turns + 1, replace=False)
    requests = [prompts.render(" ".join(catalog.titles[row].split()[-3:])) for row in chosen.tolist()]
    for width in arguments.beams:
        for meaning in ("renormalised", "full_softmax"):
            ways = {jump: BeamSettings(width=width, meaning=meaning, jump_tails=jump) for jump in (True, False)}
            seconds, counted, difference, same = {True: [], False: []}, {True: [], False: []}, 0.0, 0
            for number, request in enumerate(requests):
                answers = {}
                for jump, settings in ways.items():
                    calls[0] = 0
                    _, cpu, [answers[jump]] = clocked(lambda s=settings, r=request: beam_search(model, [r], index, s))
                    if number:  # the first one warms up
                        seconds[jump].append(cpu)
                        counted[jump].append(calls[0])
                same += answers[True].rows.tolist() == answers[False].rows.tolist()
                both = answers[True].log_probabilities, answers[False].log_probabilities
                difference = max(difference, float(np.abs(both[0] - both[1]).max()))
            row = {
                "beams": width,
                "meaning": meaning,
                "cpu_seconds": {jump: round(statistics.median(found), 3) for jump, found in seconds.items()},
                "calls": {jump: statistics.median(found) for jump, found in counted.items()},
                "ratio": round(statistics.median(np.divide(seconds[False], seconds[True]).tolist()), 1),
                "same_items": f"{same} of {len(requests)}",
                "largest_score_difference": difference,
            }
            print(json.dumps({**row, "keys": "true: by branchings"}), flush=True)


def measure_prompts(arguments: argparse.Namespace) -> None:
    """Search on the rails behind prompts of some lengths, made of titles' words, of which no beginning is kept."""
    model, catalog, index = opened(arguments)
    prompts = Prompts(model.tokenizer)
    rng = generator(arguments.seed, "benchmark", "queries")
    for length in arguments.prompt:
        requests = []
        for _ in range(arguments.turns + 1):
            words = " ".join(catalog.titles[row] for row in rng.choice(len(catalog), length // 4).tolist())
            request = prompts.render(words)
            requests.append([*request[: length - 16], *request[-16:]])  # words are cut out, the template's end stays
        for width in arguments.beams:
            settings = BeamSettings(width=width, meaning="renormalised")
            seconds = [clocked(lambda r=one, s=settings: beam_search(model, [r], index, s))[1] for one in requests]
            read = [clocked(lambda r=one: model.prefill([r]))[1] for one in requests]
            row = {"prompt": length, "beams": width, "dtype": arguments.dtype, "queries": arguments.turns}
            row |= {"cpu_seconds": _told(seconds[1:]), "of_them_reading_the_prompt": _told(read[1:])}
            print(json.dumps(row), flush=True)


def _told(seconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 3), "least": round(min(seconds), 3)}


def engine_memory(arguments: argparse.Namespace) -> None:
    """Open a saved engine and ask it once, on the rails, in this process; print what it held at most and holds."""
    before = _resident()
    engine = Engine.load(arguments.engine)
    loaded = _resident()
    engine.search(engine.catalog.titles[0].split()[-1], k=10, decoder=BeamSettings(meaning="renormalised"))
    row = {"items": len(engine), "libraries": before, "loaded": loaded, "asked": _resident()}
    print(json.dumps(row | {"keys": "megabytes: resident, of that anonymous, peak"}), flush=True)


def _resident() -> dict[str, int]:
    """Read the resident memory of this process, MB; Linux."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = {"resident": "VmRSS", "anonymous": "RssAnon", "peak": "VmHWM"}
    return {told: int(lines[name].split()[0]) // 1024 for told, name in names.items()}


class CountingModel(NoiseModel):
    """Count the calls of a seeded noise model, and the rows they read."""

    calls = 0

    def prefill(self, contexts: Any) -> Any:
        """Read contexts."""
        self.calls += 1
        return super().prefill(contexts)

    def step(self, state: Any, parents: Any, tokens: Any) -> Any:
        """Append tokens."""
        self.calls += 1
        return super().step(state, parents, tokens)


def measure_exact(arguments: argparse.Namespace) -> None:
    """Count model calls of exact best-first search and of beam 20, on Semantic IDs of 4 levels of 256 codes."""
    rng = generator(arguments.seed, "benchmark", "semantic ids")
    codes = np.minimum(rng.zipf(1.2, size=(arguments.titles, 4)) - 1, 255)
    index = Trie.from_matrix(codes, vocab_size=256)
    for sharpness in (1.0, 2.0, 3.0, 4.0):
        model = CountingModel(256, seed=arguments.seed, sharpness=sharpness)
        for rows_at_once, beam_first in ((16, False), (256, False), (4096, True)):
            calls: dict[str, list[int]] = {"beam 20": [], "exact": []}
            proven = same = 0
            for query in range(25):
                model.calls = 0
                [beam] = beam_search(model, [[query]], index, BeamSettings(width=20), k=10)
                calls["beam 20"].append(model.calls)
                model.calls = 0
                settings = ExactSettings(budget=20_000, rows_at_once=rows_at_once, beam_first=beam_first)
                [exact] = exact_search(model, [[query]], index, settings, k=10)
                calls["exact"].append(model.calls)
                proven += exact.exact
                same += beam.rows.tolist() == exact.rows.tolist()
            median = {name: statistics.median(found) for name, found in calls.items()}
            row = {"sharpness": sharpness, "rows_at_once": rows_at_once, "beam_first": beam_first}
            print(
                json.dumps({**row, "median_calls": median, "proven_of_25": proven, "beam_20_right_of_25": same}),
                flush=True,
            )


def main() -> None:
    """Read the command line, print hardware, versions and one JSON line per shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, nargs="+", help="tokens; without --checkpoint 32 and 400 by default")
    parser.add_argument("--beams", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--titles", type=int, default=100_000)
    parser.add_argument("--vocab", type=int, default=32_000)
    parser.add_argument("--hidden", type=int, default=768, help="768 with 12 layers: 138 M parameters")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--exact", action="store_true", help="model calls of exact search instead of time")
    parser.add_argument("--peak", choices=["loaded", "greedy", "genrail", "generate"], help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", help="a real model instead of a random one: a name, folder or .gguf file")
    parser.add_argument("--catalog", type=Path, help="with --checkpoint: whose titles are written")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="with --checkpoint")
    parser.add_argument("--engine", type=Path, help="a saved engine, whose memory is measured")
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
    if arguments.engine:
        engine_memory(arguments)
        return
    if arguments.checkpoint:
        (measure_prompts if arguments.prompt else measure_checkpoint)(arguments)
        return
    arguments.prompt = arguments.prompt or [32, 400]
    if arguments.peak:
        print(peak_of(arguments))
    elif arguments.memory:
        measure_memory(arguments)
    elif arguments.exact:
        measure_exact(arguments)
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
