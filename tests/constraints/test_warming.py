"""After `warm_up` no step compiles anything: the types of its input are always the same."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.constraints import LiveTrie, Trie, warm_up, warming
from genrail.constraints.checks import token_type
from genrail.constraints.kernels import best_continuations, pick_beams
from genrail.constraints.merging import best_of_two

KERNELS = (best_continuations, best_of_two, pick_beams)


def compiled_forms():
    return [len(kernel.signatures) for kernel in KERNELS]


def walk(index):
    """Three steps with every kind of subset; read-only input too."""
    rows = np.arange(index.row_count)
    subsets = [None, index.subset(rows % 2 == 0), index.only(rows[:3]), index.without([1])]
    for beams in (index.start(4), index.start(4)):
        scores = np.broadcast_to(0.0, (4, 1))
        for meaning in ("full_softmax", "renormalised"):
            logits = np.zeros((beams.alive.size, index.vocab_size), dtype=np.float32)
            logits.setflags(write=False)
            found = index.candidates(beams, logits, scores, 6, subsets, meaning)
            beams, scores = index.advance(found, np.zeros((4, 1), dtype=np.int64)), found.scores[:, :1]


@pytest.mark.parametrize("vocab_size", [200, 3000])
def test_neither_mapped_files_nor_live_changes_compile_again(tmp_path, vocab_size):
    warm_up(vocab_size=vocab_size)
    before = compiled_forms()
    codes = np.random.default_rng(0).integers(0, vocab_size, size=(3000, 3))
    trie = Trie.from_matrix(codes, vocab_size)
    trie.save(tmp_path / "trie")
    loaded = Trie.load(tmp_path / "trie", mmap=True)
    live = LiveTrie(loaded).add(codes[:70]).remove([5, 3001]).update([7], codes[:1])
    live.save(tmp_path / "live")
    for index in (trie, loaded, live, LiveTrie.load(tmp_path / "live"), live.compact(), loaded.remove([2])):
        walk(index)
    assert compiled_forms() == before


@pytest.mark.parametrize(("vocab_size", "bits"), [(2, 8), (256, 8), (257, 16), (65_536, 16), (65_537, 32)])
def test_only_the_width_of_the_vocabulary_is_compiled(vocab_size, bits):
    assert warming._widths(vocab_size) == [bits]
    assert Trie.from_flat([1, 0], [0, 2], vocab_size, end_token=0).rows.dtype == token_type(vocab_size)


def test_it_tells_whether_kernels_have_to_be_compiled(monkeypatch):
    seen = []
    warm_up(vocab_size=200, progress=lambda stage, done, total: seen.append((stage, done, total)))
    assert [done for _, done, _ in seen] == [*range(len(seen) - 1), warming.STEPS]
    assert {(stage, total) for stage, _, total in seen} == {("kernels for 8-bit tokens", warming.STEPS)}
    assert warming.is_warm(vocab_size=200)

    class NeverCompiled:
        signatures = ()

    monkeypatch.setattr(warming, "best_of_two", NeverCompiled())
    assert not warming.is_warm(vocab_size=200)


def test_all_kernels_are_those_of_ngrams_too(monkeypatch):
    seen = []
    monkeypatch.setattr(warming, "_WIDTHS", {})
    warm_up(progress=lambda stage, done, total: seen.append((stage, done, total)))
    assert seen == [("kernels for n-grams", 0, 1), ("kernels for n-grams", 1, 1)]
