"""What vLLM is given, tested without vLLM: masks, walks on tensors, and the form of its answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.constraints import Trie
from genrail.decoding.adapters import AllowedTokens
from genrail.decoding.torch_index import TorchIndex
from genrail.decoding.vllm_rails import DeviceRailsProcessor, RailsProcessor, put_on_rails, walk
from genrail.errors import MissingPackageError, SettingsError
from genrail.models.vllm import CHILDREN, START, TRIE, open_vllm

WORDS = 7
bodies = st.lists(st.lists(st.integers(1, WORDS - 1), min_size=0, max_size=4), min_size=1, max_size=60)


@given(catalog=bodies, heavy=st.sampled_from([1, 32]), data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_walk_on_tensors_allows_what_the_trie_allows(catalog, heavy, data):
    """Rows of different depth in one call; some written to the end, some off the rails."""
    trie = Trie.from_sequences(catalog, WORDS, end_token=0, heavy=heavy)
    allowed = AllowedTokens(trie, end_token=0)
    written = []
    for _ in range(data.draw(st.integers(1, 8))):
        sequence = [*data.draw(st.sampled_from(catalog)), 0]
        prefix = sequence[: data.draw(st.integers(0, len(sequence)))]
        written.append([*prefix, *data.draw(st.sampled_from([[], [6, 6]]))])
    longest = max(trie.max_length, *map(len, written))
    tokens = torch.zeros((len(written), longest), dtype=torch.int64)
    for row, prefix in enumerate(written):
        tokens[row, : len(prefix)] = torch.tensor(prefix, dtype=torch.int64)
    mask = walk(TorchIndex(trie), tokens, torch.tensor([len(prefix) for prefix in written]), end_token=0)
    for row, prefix in enumerate(written):
        assert torch.nonzero(mask[row])[:, 0].tolist() == sorted(allowed.or_end(prefix))


def test_a_removed_item_is_off_the_rails():
    trie = Trie.from_sequences([[1, 2], [1, 3], [4]], WORDS, end_token=0).remove([0, 2])
    mask = walk(TorchIndex(trie), torch.tensor([[0, 0, 0], [1, 0, 0]]), torch.tensor([0, 1]), end_token=0)
    assert [torch.nonzero(row)[:, 0].tolist() for row in mask] == [[1], [3]]


def test_identifiers_of_one_length_allow_the_end_behind_the_last_code():
    trie = Trie.from_matrix([[1, 2], [1, 3]], WORDS)
    mask = walk(TorchIndex(trie), torch.tensor([[1, 0], [1, 3]]), torch.tensor([1, 2]), end_token=5)
    assert [torch.nonzero(row)[:, 0].tolist() for row in mask] == [[2, 3], [5]]


def test_masked_rows_hold_log_probabilities_and_others_stay():
    logits = torch.randn(3, WORDS)
    before = logits.clone()
    put_on_rails(logits, [2, 0], [[1], [0, 6]])
    assert torch.equal(logits[1], before[1])
    expected = torch.log_softmax(before, dim=1)
    assert torch.isfinite(logits[0]).nonzero()[:, 0].tolist() == [0, 6]
    torch.testing.assert_close(logits[0, [0, 6]], expected[0, [0, 6]])
    torch.testing.assert_close(logits[2, 1], expected[2, 1])
    put_on_rails(logits, [], [])


class Requests:
    """Stand in for the state of vLLM's V2 model runner: slots, each with a prompt and what was written."""

    def __init__(self, histories, size=WORDS):
        self.device, self.max_num_reqs, self.vocab_size = torch.device("cpu"), len(histories), size
        table = torch.full((len(histories), 20), 9, dtype=torch.int32)
        for slot, history in enumerate(histories):
            table[slot, : len(history)] = torch.tensor(history)
        self.all_token_ids = SimpleNamespace(gpu=table)
        self.total_len = SimpleNamespace(gpu=torch.tensor([len(history) for history in histories]))


def parameters(**arguments):
    return SimpleNamespace(extra_args=arguments or None)


@pytest.fixture
def config(tmp_path):
    trie = Trie.from_sequences([[1, 2], [1, 3], [4]], WORDS, end_token=0)
    trie.save(tmp_path)
    return SimpleNamespace(additional_config={TRIE: str(tmp_path)})


def test_the_device_processor_masks_its_own_rows(config):
    states = Requests([[6, 6, 1], [5], [6, 6, 6], [6, 4]])
    processor = DeviceRailsProcessor(config, states)
    assert processor.add_request(0, parameters(**{START: 2}))
    assert not processor.add_request(1, parameters())
    assert processor.add_request(2, parameters(**{CHILDREN: [3, 5]}))
    assert processor.add_request(3, parameters(**{START: 1}))
    processor.apply_staged_writes()
    logits = torch.randn(4, WORDS)
    order = torch.tensor([3, 0, 1, 2])  # rows are not slots
    masked = processor.apply(logits, SimpleNamespace(expanded_idx_mapping=order))
    found = [torch.isfinite(row).nonzero()[:, 0].tolist() for row in masked]
    assert found == [[0], [2, 3], list(range(WORDS)), [3, 5]]
    torch.testing.assert_close(masked[1, 2], torch.log_softmax(logits[1], dim=0)[2])
    assert torch.equal(masked[2], logits[2])
    processor.add_request(2, parameters())
    processor.apply_staged_writes()
    assert torch.equal(processor.apply(logits, SimpleNamespace(expanded_idx_mapping=order))[3], logits[3])


def test_the_row_processor_follows_what_is_written(config):
    processor = RailsProcessor(config, None, False)
    output = []
    children = processor._request(parameters(**{START: 1}), [6, 1], output)
    assert children() == [2, 3]
    output.append(2)
    assert children() == [0]
    assert processor._request(parameters(**{CHILDREN: [4]}), None, [])() == [4]
    assert processor._request(parameters(), None, []) is None
    assert not processor.is_argmax_invariant()


def test_walking_without_a_trie_is_refused():
    nothing = SimpleNamespace(additional_config=None)
    with pytest.raises(SettingsError, match="trie=folder"):
        RailsProcessor(nothing, None, False)._request(parameters(**{START: 1}), [1], [])
    with pytest.raises(SettingsError, match="trie=folder"):
        DeviceRailsProcessor(nothing, Requests([[1]])).add_request(0, parameters(**{START: 1}))
    with pytest.raises(ValueError, match="empty"):
        RailsProcessor.validate_params(parameters(**{CHILDREN: []}))


def test_without_vllm_the_extra_is_named():
    try:
        import vllm  # noqa: F401
    except ImportError:
        with pytest.raises(MissingPackageError, match=r"genrail\[vllm\]"):
            open_vllm("anything")
    with pytest.raises(SettingsError, match="runner"):
        open_vllm("anything", runner="v3")
