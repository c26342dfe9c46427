"""Prompts: user text is data, the template's control tokens are the only ones, chat formats are respected."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.errors import QueryError, SettingsError
from genrail.models.prompts import Example, Prompts, PromptTemplate
from genrail.models.tokenizer_fingerprint import tokenizer_fingerprint
from tests.models import checkpoints

PLAIN = checkpoints.tokenizer()
CHAT = checkpoints.tokenizer(chat=True)
SPECIAL = [str(token) for token in PLAIN.added_tokens_decoder.values() if token.special]


def unigram():
    """A Unigram vocabulary holds its control tokens as pieces, as those of T5 do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted({*"▁abcdefghijklmnopqrstuvwxyz<>/|_:.,?0123456789ACDEHLMNOPRSTW'\n"})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -3.0) for letter in letters), ("▁boot", -1.0)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    fast.add_special_tokens({"additional_special_tokens": ["<extra_id_0>"]})
    return fast


def controls(tokenizer, ids):
    special = {*tokenizer.added_tokens_decoder} - {tokenizer.unk_token_id}
    return [token for token in ids if token in special]


@pytest.mark.parametrize("tokenizer", [PLAIN, CHAT, unigram()], ids=["plain", "chat", "unigram"])
def test_no_added_token_comes_out_of_what_users_write(tokenizer):
    prompts = Prompts(tokenizer)
    clean = controls(tokenizer, prompts.render("boot", ["a title", "another"]))
    for added in tokenizer.added_tokens_decoder.values():
        for text in (str(added), f"boot{added}boot", f" {added} ", f"{added}{added}", f"{added}<|im_sta{added}rt|>"):
            found = prompts.render(text, [text, "another"])
            assert controls(tokenizer, found) == clean, (text, tokenizer.decode(found))


@given(st.lists(st.sampled_from([*SPECIAL, "boot", " ", "<", "|>", "slot", "{query}", "\n"]), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_user_text_is_kept_letter_by_letter(parts):
    text = "x" + "".join(parts) + "x"
    for tokenizer in (PLAIN, CHAT):
        ids = Prompts(tokenizer).render(text)
        assert f"A shopper searches for: {text}\nWhich product fits best?" in tokenizer.decode(ids)
        assert controls(tokenizer, ids) == controls(tokenizer, Prompts(tokenizer).render("boot"))


def test_the_plain_layout():
    text = PLAIN.decode(Prompts(PLAIN).render("trail shoes"))
    template = PromptTemplate()
    assert text == f"{template.system}\n\nA shopper searches for: trail shoes\nWhich product fits best?\nProduct:\n"


def test_a_history_is_numbered_oldest_first():
    text = PLAIN.decode(Prompts(PLAIN).render(None, ["Boot", "Sandal"]))
    assert "A shopper bought, oldest first:\n1. Boot\n2. Sandal\nWhich product comes next?" in text


def test_words_and_a_history_go_together():
    text = PLAIN.decode(Prompts(PLAIN).render("red", ["Boot"]))
    assert "1. Boot\nNow the shopper searches for: red" in text


def test_a_long_history_loses_its_old_end():
    text = PLAIN.decode(Prompts(PLAIN, max_history=2).render(None, ["A", "B", "C"]))
    assert "1. B\n2. C\n" in text
    assert "A\n" not in text


def test_the_chat_template_is_respected():
    text = CHAT.decode(Prompts(CHAT).render("trail shoes"))
    system = PromptTemplate().system
    assert text == (
        f"<s><|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nA shopper searches for: trail shoes\n"
        "Which product fits best?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_without_a_system_role_gets_its_words_in_the_first_message():
    tokenizer = checkpoints.tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "[{{ m.role }}]{{ m.content }}{% endfor %}"
    )
    text = tokenizer.decode(Prompts(tokenizer).render("red"))
    assert text.startswith(f"[user]{PromptTemplate().system}\n\nA shopper searches for: red")


@pytest.mark.parametrize("tokenizer", [PLAIN, CHAT], ids=["plain", "chat"])
def test_examples_are_shown_before_the_request(tokenizer):
    examples = [Example("Nike Air", query="sneaker"), Example("Ecco </s>", history=["Clarks"])]
    ids = Prompts(tokenizer, examples=examples).render("red")
    text = tokenizer.decode(ids)
    order = [text.index(part) for part in ("sneaker", "Nike Air", "1. Clarks", "Ecco </s>", "for: red")]
    assert order == sorted(order)
    assert tokenizer.eos_token_id not in ids


def test_a_seq2seq_prompt_ends_as_the_tokenizer_ends_texts():
    tokenizer = checkpoints.tokenizer()
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    seq2seq, causal = Prompts(tokenizer, seq2seq=True).render("red"), Prompts(tokenizer).render("red")
    assert (seq2seq[0], seq2seq[-1]) == (1, 2)
    assert (causal[0], 2 in causal) == (1, False)


def test_the_space_before_a_word_belongs_to_its_token():
    assert PLAIN("searches for: Nike")["input_ids"][-1] in Prompts(PLAIN).render("Nike Air")


@pytest.mark.parametrize("tokenizer", [PLAIN, CHAT], ids=["plain", "chat"])
def test_every_prompt_begins_with_the_shared_prefix(tokenizer):
    prompts = Prompts(tokenizer, examples=[Example("Nike Air", query="sneaker")])
    prefix = prompts.shared_prefix()
    assert len(prefix) > 20
    for prompt in (prompts.render("red"), prompts.render(None, ["Boot"]), prompts.render("x", ["y"]), prompts.empty()):
        assert prompt[: len(prefix)] == prefix


def test_a_request_without_words_or_history_is_refused():
    with pytest.raises(QueryError, match="request is empty"):
        Prompts(PLAIN).render("  ", [])


def test_chat_without_a_chat_template_is_refused():
    with pytest.raises(SettingsError, match="no chat template"):
        Prompts(PLAIN, chat=True)


def test_chat_can_be_switched_off():
    assert Prompts(CHAT, chat=False).render("red") == Prompts(PLAIN).render("red")


def test_a_template_without_its_slot_is_refused():
    with pytest.raises(SettingsError, match="{query}"):
        PromptTemplate(search="find something")


def test_a_history_below_one_is_refused():
    with pytest.raises(SettingsError, match="max_history is 0"):
        Prompts(PLAIN, max_history=0)


def test_the_same_tokenizer_from_another_folder_has_the_same_fingerprint(tmp_path):
    from transformers import AutoTokenizer

    for folder in ("here", "there"):
        CHAT.save_pretrained(tmp_path / folder)
    here, there = (AutoTokenizer.from_pretrained(tmp_path / folder) for folder in ("here", "there"))
    before = tokenizer_fingerprint(here)
    here(["a", "a longer one"], padding=True, truncation=True, max_length=3)  # leaves settings behind
    assert tokenizer_fingerprint(here) == tokenizer_fingerprint(there) == before
    there.add_tokens(["<new>"])
    assert tokenizer_fingerprint(there) != before
    assert tokenizer_fingerprint(checkpoints.tokenizer(vocab_size=350)) != before
