"""vLLM itself, on a CPU: exact beams, samples on the rails, candidate scores. Run by `make test-vllm`."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; `make test-vllm` makes an environment that has it")

from vllm import SamplingParams

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search, score_sequences
from genrail.decoding.vllm_rails import vllm_search
from genrail.errors import SettingsError
from genrail.models.checkpoints import load_checkpoint
from genrail.models.plain_text import plain_tokens
from genrail.models.vllm import START, open_vllm, score_candidates
from tests.models import checkpoints

END = 2
WORDS = "trail road winter summer light warm soft wide narrow city forest rain snow sun kids men women sport".split()


def titles(count=5000):
    """Short titles, many of which begin alike."""
    rng = np.random.default_rng(0)
    made = list(checkpoints.TITLES)
    while len(made) < count:
        words = rng.choice(WORDS, size=rng.integers(1, 4)).tolist()
        made.append(f"{checkpoints.TITLES[rng.integers(len(checkpoints.TITLES))]} {' '.join(words)}")
    return made


@pytest.fixture(scope="module")
def lane(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    texts = titles()
    tokenizer = checkpoints.tokenizer(texts, 1500)
    model = checkpoints.model(
        "llama",
        len(tokenizer),
        sharpness=1.0,  # log-probabilities of a usual size: 1e-5 is then near the precision of float32
        hidden_size=128,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
    )
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    ours = load_checkpoint(folder / "model")
    sequences = [[*tokens, END] for tokens in plain_tokens(ours.tokenizer, texts)]
    trie = Trie.from_sequences(sequences, len(ours.tokenizer), end_token=END)
    trie.save(folder / "trie")
    llm = open_vllm(folder / "model", trie=folder / "trie", dtype="float32", enforce_eager=True, max_model_len=1024)
    return ours, trie, sequences, llm


def folder(lane):
    return lane[3].llm_engine.model_config.model


PROMPTS = [[1, *range(20, 30)], [1, *range(10, 110), *range(10, 110), *range(60, 260)], [1, 50]]


def test_scores_equal_exhaustive_scoring(lane):
    ours, trie, sequences, llm = lane
    answers = vllm_search(llm, PROMPTS, trie, BeamSettings(width=50), k=20)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        expected = score_sequences(ours, prompt, answer.tokens)
        print("largest difference to exhaustive scoring", np.abs(answer.log_probabilities - expected).max())
        np.testing.assert_allclose(answer.log_probabilities, expected, atol=1e-5)
        [same] = beam_search(ours, [prompt], trie, BeamSettings(width=50), k=20)
        assert answer.tokens == same.tokens
        assert [tuple(sequences[row]) for row in answer.rows] == answer.tokens


def test_a_filter_is_kept(lane):
    ours, trie, _, llm = lane
    subset = trie.only(range(100, 160))
    [answer] = vllm_search(llm, PROMPTS[:1], trie, BeamSettings(width=50), [subset], k=30)
    [same] = beam_search(ours, PROMPTS[:1], trie, BeamSettings(width=50), [subset], k=30)
    assert answer.rows.tolist() == same.rows.tolist()


def test_samples_are_real_items(lane):
    _, trie, sequences, llm = lane
    parameters = SamplingParams(
        n=16,
        temperature=1.0,
        seed=1,
        max_tokens=trie.max_length,
        stop_token_ids=[END],
        detokenize=False,
        extra_args={START: len(PROMPTS[0])},
    )
    free = SamplingParams(n=1, temperature=1.0, max_tokens=6, ignore_eos=True, detokenize=False)
    ours, theirs = llm.generate(
        [{"prompt_token_ids": PROMPTS[0]}, {"prompt_token_ids": PROMPTS[2]}], [parameters, free], use_tqdm=False
    )
    known = set(map(tuple, sequences))
    assert len(ours.outputs) == 16
    assert all(tuple(output.token_ids) in known for output in ours.outputs)
    assert len(theirs.outputs[0].token_ids) == 6


def test_candidates_are_scored_by_the_prompts_log_probabilities(lane):
    ours, _, sequences, searching = lane
    with pytest.raises(SettingsError, match="raw_logprobs"):
        score_candidates(searching, PROMPTS[0], sequences[:1])
    llm = open_vllm(folder(lane), logprobs_mode="raw_logprobs", dtype="float32", enforce_eager=True, max_model_len=1024)
    chosen = [sequences[row] for row in (0, 7, 100, 4000)]
    scores = score_candidates(llm, PROMPTS[0], chosen)
    np.testing.assert_allclose(scores, score_sequences(ours, PROMPTS[0], chosen), atol=1e-4)
    assert len(score_candidates(llm, PROMPTS[0], [])) == 0
