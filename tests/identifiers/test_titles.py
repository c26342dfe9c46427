"""Every title is spelled in the model's own tokens, comes back from them where it can, and is never lost where not."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers")

from genrail.errors import IdentifierError, SettingsError, ShapeError
from genrail.identifiers import Titles
from genrail.models.plain_text import control_tokens

BEAUTY = Path(__file__).parents[2] / "../shared/data/amazon_beauty/items.csv.gz"
WORDS = ["trail shoe", "Trail Runner 2 – waterproof", "kettle", "hand cream, 50 ml"]


def byte_level():
    """A byte-level vocabulary as of GPT-2 and Qwen: every text comes back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>", "<|im_start|>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<pad>")


def unigram():
    """A vocabulary as of T5: lower-case letters only, blanks collapse, unknown characters, control tokens as pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz</>0123456789-"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *letters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


BYTES = byte_level()
PIECES = unigram()


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=8), st.booleans())
def test_titles_come_back_from_their_tokens(titles, leading_space):
    identifiers = Titles(BYTES, max_tokens=500, leading_space=leading_space)
    table, report = identifiers.assign_with_report(titles)
    assert len(table) == len(titles)
    for row, title in enumerate(titles):
        back = identifiers.decode(table.sequence(row))
        assert back == title or row in report.changed
        assert row not in report.changed or not title.strip() or set(title) & {" ", "<"}


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), max_size=8))
def test_every_title_has_an_identifier_of_plain_tokens_and_one_end_token(titles):
    for tokenizer in (BYTES, PIECES):
        identifiers = Titles(tokenizer, max_tokens=10)
        table = identifiers.assign(titles, [f"sku-{row}" for row in range(len(titles))])
        forbidden = control_tokens(tokenizer).keys() - {tokenizer.unk_token_id}
        assert len(table) == len(titles)
        for row in range(len(titles)):
            *body, end = table.sequence(row).tolist()
            assert end == identifiers.end_token
            assert 1 <= len(body) <= 10
            assert not set(body) & forbidden


def test_tokens_are_those_of_the_models_own_tokenizer():
    table = Titles(BYTES).assign(WORDS)
    assert table.vocab_size == len(BYTES)
    assert table.end_token == BYTES.eos_token_id
    for row, title in enumerate(WORDS):
        assert table.sequence(row).tolist() == [*BYTES(title)["input_ids"], BYTES.eos_token_id]


def test_a_leading_space_continues_a_prompt():
    prompt = "Product:"
    table = Titles(BYTES, leading_space=True).assign(["trail shoe"])
    assert (
        table.sequence(0).tolist()[:-1] == BYTES(f"{prompt} trail shoe")["input_ids"][len(BYTES(prompt)["input_ids"]) :]
    )
    assert Titles(BYTES, leading_space=True).decode(table.sequence(0)) == "trail shoe"


@pytest.mark.parametrize("tokenizer", [BYTES, PIECES], ids=["byte-level", "unigram"])
def test_control_tokens_in_a_title_are_its_characters(tokenizer):
    names = list(control_tokens(tokenizer).values())
    titles = [f"shoe {name} red" for name in names] + names
    table, report = Titles(tokenizer).assign_with_report(titles)
    for row in range(len(titles)):
        body = table.sequence(row).tolist()[:-1]
        assert not set(body) & control_tokens(tokenizer).keys()
    assert len(set(table.groups.tolist())) == len(titles)
    if tokenizer is BYTES:
        assert report.changed == ()


def test_a_title_of_5000_characters_is_cut_and_reported():
    random = np.random.default_rng(0)
    long = "".join(random.choice(list("abcdefgh "), size=5000))
    table, report = Titles(BYTES, max_tokens=64).assign_with_report(["shoe", long])
    assert table.lengths.tolist()[1] == 65
    assert report.cut == (1,)
    assert report.changed == (1,)


def test_a_title_just_as_long_as_allowed_is_not_cut():
    tokens = len(BYTES("trail shoe")["input_ids"])
    assert Titles(BYTES, max_tokens=tokens).assign_with_report(["trail shoe"])[1].cut == ()
    assert Titles(BYTES, max_tokens=tokens - 1).assign_with_report(["trail shoe"])[1].cut == (0,)


def test_long_titles_that_differ_only_behind_the_cut_share_an_identifier():
    table, report = Titles(BYTES, max_tokens=1).assign_with_report(["kettle one", "kettle two", "shoe"])
    assert table.rows_of(table.sequence(0)).tolist() == [0, 1]
    assert report.shared == (0, 1)


@pytest.mark.parametrize("empty", ["", "   ", "\n\t"])
def test_an_empty_title_spells_the_item_id(empty):
    identifiers = Titles(BYTES)
    table, report = identifiers.assign_with_report(["shoe", empty], ["sku-1", "sku-2"])
    assert identifiers.decode(table.sequence(1)) == "sku-2"
    assert report.untitled == (1,)
    assert report.changed == (1,)


def test_an_empty_title_without_item_ids_spells_untitled():
    identifiers = Titles(BYTES)
    table, report = identifiers.assign_with_report(["", "shoe", " "])
    assert identifiers.decode(table.sequence(0)) == "untitled"
    assert table.rows_of(table.sequence(0)).tolist() == [0, 2] == list(report.untitled)


def test_a_title_of_unknown_characters_spells_the_item_id():
    identifiers = Titles(PIECES)
    table, report = identifiers.assign_with_report(["抹茶", "red 抹 shoe"], ["sku-1", "sku-2"])
    assert identifiers.decode(table.sequence(0)) == "sku-1"
    assert report.untitled == (0,)
    assert report.changed == (0, 1)


def test_equal_titles_share_one_identifier():
    table, report = Titles(BYTES).assign_with_report(["shoe", "kettle", "shoe"])
    assert table.rows_of(table.sequence(0)).tolist() == [0, 2]
    assert report.shared == (0, 2)


def test_all_titles_equal():
    table = Titles(BYTES).assign(["shoe"] * 50)
    assert table.rows_of(table.sequence(7)).tolist() == list(range(50))


def test_a_title_that_begins_another_is_kept_apart():
    table = Titles(BYTES).assign(["Nike Air", "Nike Air Max"])
    assert table.rows_of(table.sequence(0)).tolist() == [0]


def test_no_titles():
    assert len(Titles(BYTES).assign([])) == 0


def test_titles_added_later_get_the_same_tokens():
    identifiers = Titles(BYTES)
    whole = identifiers.assign(WORDS)
    assert identifiers.assign(WORDS[:2]).extend(Titles(byte_level()).assign(WORDS[2:])) == whole


def test_the_fingerprint_sees_tokenizer_and_settings():
    more = byte_level()
    more.add_tokens(["<sid_0>"])
    found = {
        Titles(BYTES).fingerprint,
        Titles(PIECES).fingerprint,
        Titles(more).fingerprint,
        Titles(BYTES, max_tokens=9).fingerprint,
        Titles(BYTES, leading_space=True).fingerprint,
        Titles(BYTES, end_token=2).fingerprint,
    }
    assert len(found) == 6
    assert Titles(BYTES).assign(WORDS).source in found


def test_another_end_token_never_occurs_inside_a_title():
    newline = BYTES("\n")["input_ids"][0]
    table = Titles(BYTES, end_token=newline).assign(["two\nlines", "\n", "one"])
    assert table.end_token == newline
    assert np.count_nonzero(table.tokens == newline) == 3


def test_a_tokenizer_without_end_token():
    from transformers import PreTrainedTokenizerFast

    silent = PreTrainedTokenizerFast(tokenizer_object=BYTES.backend_tokenizer, pad_token="<pad>")
    with pytest.raises(SettingsError, match="no end-of-sequence token .* name it as eos_token"):
        Titles(silent)


@pytest.mark.parametrize("max_tokens", [0, -1, 1.5, True])
def test_max_tokens_out_of_range(max_tokens):
    with pytest.raises(SettingsError, match="max_tokens"):
        Titles(BYTES, max_tokens=max_tokens)


def test_titles_that_are_no_titles():
    with pytest.raises(IdentifierError, match="one string"):
        Titles(BYTES).assign("shoe")
    with pytest.raises(IdentifierError, match="row 1 is None"):
        Titles(BYTES).assign(["shoe", None])
    with pytest.raises(ShapeError, match="2 titles but 1 item ids"):
        Titles(BYTES).assign(["a", "b"], ["x"])


def test_report_as_plain_values():
    report = Titles(BYTES).assign_with_report(["shoe", "shoe", ""], ["a", "b", "c"])[1]
    assert report.to_dict() == {"titles": 3, "changed": [2], "cut": [], "untitled": [2], "shared": [0, 1]}


def test_12101_real_titles_come_back():
    if not BEAUTY.exists():
        pytest.skip("../shared/data is absent: real titles are not checked")
    with gzip.open(BEAUTY, "rt", encoding="utf-8") as file:
        items = list(csv.DictReader(file))
    titles = [item["title"] for item in items]
    identifiers = Titles(BYTES, max_tokens=2000)
    table, report = identifiers.assign_with_report(titles, [item["item_id"] for item in items])
    assert len(table) == 12101
    assert report.cut == ()
    assert report.changed == report.untitled == tuple(row for row, title in enumerate(titles) if not title)
    assert len(report.untitled) == 7
