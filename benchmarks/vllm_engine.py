"""Compare `backend="vllm"` with transformers on a real model and real titles: items, scores, requests a second.

    python benchmarks/vllm_engine.py products.csv.gz --items 5000

In an environment with vLLM (`make test-vllm` makes one). Queries are the last words of titles, drawn by the seed. The
items must be the same and scores differ by 1e-5 at most; both are compared with the same model in float64 too, which
tells what float32 itself leaves open. Then all users ask at once: our search, one after the other by
transformers, and what vLLM itself takes to write as many tokens freely as a title has.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genrail import Catalog, Engine, Query, Ranking
from genrail.decoding import BeamSettings
from genrail.models.causal import CausalModel
from genrail.models.checkpoints import load_checkpoint
from genrail.rng import generator


def timed(run: Any) -> tuple[Any, dict[str, float]]:
    """Run once; give the result, and wall and processor seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, {
        "wall": round(time.perf_counter() - wall, 2),
        "processor": round(time.process_time() - cpu, 2),
    }


def differences(found: Sequence[Ranking], expected: Sequence[Ranking]) -> dict[str, Any]:
    """Compare rankings."""
    same = sum(one.item_ids == other.item_ids for one, other in zip(found, expected, strict=True))
    pairs = [
        (a.score, b.score) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True)
    ]
    apart = [abs(a - b) for a, b in pairs]
    return {
        "same_items": f"{same} of {len(found)}",
        "largest_score_difference": max(apart),
        "of the score": max(gap / abs(score) for gap, (_, score) in zip(apart, pairs, strict=True)),
    }


def free_writing(llm: Any, prompts: list[list[int]], tokens: int) -> None:
    """Let vLLM write, without rails and beams."""
    from vllm import SamplingParams

    parameters = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], parameters, use_tqdm=False)


def main() -> None:
    """Read the command line; print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--model", default="SmolLM2-135M")
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--width", type=int, default=20, help="beams")
    parser.add_argument("--calibration", type=float, default=0.0, help="more than 0: thousands of requests at build")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    whole = Catalog.read(arguments.catalog).shuffled(arguments.seed)
    catalog = Catalog.from_frame(whole.frame.head(arguments.items))
    rng = generator(arguments.seed, "benchmark", "queries")
    asked = [
        Query(" ".join(catalog.titles[row].split()[-3:])) for row in rng.choice(len(catalog), arguments.users).tolist()
    ]
    told: dict[str, Any] = {"command": " ".join(sys.argv), "machine": platform.machine(), "items": len(catalog)}
    beam = BeamSettings(width=arguments.width, meaning="renormalised")
    settings: dict[str, Any] = {"model": arguments.model, "calibration": arguments.calibration, "beam": beam}
    vllm, told["vllm build"] = timed(
        lambda: Engine.build(catalog, backend="vllm", backend_settings={"enforce_eager": True}, **settings)
    )
    vllm.search_batch(asked[:1], k=10)  # the first request compiles
    found, told[f"vllm, {len(asked)} users"] = timed(lambda: vllm.search_batch(asked, k=10))
    spelling = vllm.edition.finder.spelling
    prompts = [spelling.prompts.render(query.text, []) for query in asked]
    tokens = int(np.diff(vllm.edition.finder.table.offsets).mean())
    _, told[f"vllm writes {tokens} tokens freely"] = timed(lambda: free_writing(spelling.model.llm, prompts, tokens))
    plain, told["transformers build"] = timed(lambda: Engine.build(catalog, **settings))
    expected, told[f"transformers, {len(asked)} users"] = timed(lambda: plain.search_batch(asked, k=10))
    told["apart"] = differences(found, expected)
    exact = load_checkpoint(arguments.model)
    double = CausalModel(exact.model.double(), exact.tokenizer, exact.name)
    reference = Engine.build(catalog, **{**settings, "model": double}).search_batch(asked, k=10)
    told |= {"vllm from float64": differences(found, reference)}
    told |= {"transformers from float64": differences(expected, reference)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
