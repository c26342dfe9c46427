"""GGUF files and models of packages: converted once, equal to what they hold, refused in one sentence where broken."""

from __future__ import annotations

import errno
from dataclasses import replace

import numpy as np
import pytest
import torch

from genrail.errors import DamagedError, SettingsError, StorageError
from genrail.models import at_hand, gguf
from genrail.models.at_hand import NAMED, find_named
from genrail.models.checkpoints import load_checkpoint

pytest.importorskip("gguf", reason='reading GGUF needs pip install "genrail[gguf]"')
pytest.importorskip("accelerate", reason='reading GGUF needs pip install "genrail[gguf]"')

from tests.models.tiny_gguf import write_gguf

TEXT = "Nike Air Max red"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setattr(gguf, "cache_folder", lambda: folder)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, *write_gguf(path)


def test_a_file_loads_as_the_model_it_holds(written, cache):
    path, model, tokenizer = written
    stages = []
    loaded = load_checkpoint(path, progress=lambda *told: stages.append(told))
    ids = [1, *tokenizer(TEXT)["input_ids"]]
    assert loaded.tokenizer(TEXT)["input_ids"] == ids  # the file says that texts begin with <s>
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([ids])).logits[0, -1].numpy()
    np.testing.assert_allclose(loaded.prefill([ids])[1][0], expected, atol=1e-4)
    assert loaded.name == "tiny"
    assert stages[-1] == ("converting the model", 3, 3)
    assert [entry.name for entry in cache.iterdir()] == [next(cache.iterdir()).name]  # nothing passing is left


def test_it_is_converted_once(written, cache, monkeypatch):
    first = load_checkpoint(written[0])
    monkeypatch.setattr(gguf, "_convert", lambda *_: pytest.fail("converted again"))
    assert load_checkpoint(written[0]).fingerprint == first.fingerprint


def test_each_precision_is_kept_by_itself(written, cache):
    """A load then maps the weights it needs, and no others beside them."""
    narrow, wide = load_checkpoint(written[0], dtype="bfloat16"), load_checkpoint(written[0])
    assert sorted(entry.name.partition("-v")[2].partition("-")[2] for entry in cache.iterdir()) == ["", "bfloat16"]
    assert all(torch.equal(one, other.bfloat16()) for one, other in zip(*map(weights, (narrow, wide)), strict=True))


def weights(checkpoint):
    return checkpoint.model.parameters()


def test_a_file_that_adds_no_beginning_is_left_so(tmp_path):
    _, tokenizer = write_gguf(tmp_path / "plain.gguf", add_bos=False)
    assert load_checkpoint(tmp_path / "plain.gguf").tokenizer(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]


@pytest.mark.parametrize("part", [0.2, 0.6, 0.999])
def test_a_file_that_is_cut_off_is_refused(written, tmp_path, cache, part):
    whole = written[0].read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(SettingsError, match=r"cut\.gguf is cut off.*fetch it again"):
        load_checkpoint(tmp_path / "cut.gguf")
    assert not list(cache.iterdir())


def test_what_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(SettingsError, match="not a GGUF file"):
        load_checkpoint(tmp_path / "text.gguf")
    with pytest.raises(SettingsError, match="there is no file"):
        load_checkpoint(tmp_path / "absent.gguf")


def test_an_unknown_architecture_is_named(tmp_path):
    write_gguf(tmp_path / "odd.gguf", architecture="homemade")
    with pytest.raises(SettingsError, match=r"cannot convert .*odd\.gguf: .*homemade"):
        load_checkpoint(tmp_path / "odd.gguf")


def test_another_sha256_is_refused(written, cache):
    with pytest.raises(DamagedError, match=r"has the sha256 [0-9a-f]{64}, expected is 0000"):
        gguf.converted(written[0], sha256="0" * 64)
    assert not cache.exists()


def test_a_disk_that_fills_leaves_nothing_behind(written, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gguf, "_save", full)
    with pytest.raises(StorageError, match="the disk is full while writing"):
        load_checkpoint(written[0])
    assert not list(cache.iterdir())


def test_a_package_in_parts_is_joined_and_checked(written, tmp_path, monkeypatch):
    whole = written[0].read_bytes()
    parts = [tmp_path / "part0", tmp_path / "part1"]
    parts[0].write_bytes(whole[:1000])
    parts[1].write_bytes(whole[1000:])
    digest = gguf._digest(written[0])
    named = replace(NAMED[1], name="Tiny-Parts", package="gguf", sha256=digest, parts=lambda: parts)
    monkeypatch.setattr(at_hand, "NAMED", (named,))
    assert load_checkpoint("tiny-parts").fingerprint == load_checkpoint(written[0]).fingerprint
    parts[1].write_bytes(whole[1000:-1] + b"\0\0")
    monkeypatch.setattr(gguf, "VERSION", 99)  # another folder: nothing is at hand yet
    with pytest.raises(DamagedError, match="sha256"):
        load_checkpoint("Tiny-Parts")
    parts[0].unlink()
    with pytest.raises(SettingsError, match="Tiny-Parts is not installed; bring it with: pip install"):
        find_named("Tiny-Parts")


def test_precision_device_and_attention_are_taken_from_the_settings(written):
    loaded = load_checkpoint(written[0], dtype="bfloat16", attention="rows")
    assert {name: loaded.describe()[name] for name in ("dtype", "attention", "device")} == {
        "dtype": "bfloat16",
        "attention": "rows",
        "device": "cpu",
    }
    with pytest.raises(SettingsError, match="cannot load a language model"):
        load_checkpoint(written[0], device="cuda:99")


@pytest.mark.slow
@pytest.mark.skipif(not NAMED[0].installed, reason=f"SmolLM2 is not installed: {NAMED[0].install}")
def test_smollm2_knows_a_capital(monkeypatch):
    monkeypatch.undo()  # the cache of this machine: converting takes half a minute
    model = load_checkpoint("SmolLM2-135M")
    [logits] = model.prefill([model.tokenizer("The capital of France is")["input_ids"]])[1]
    assert model.tokenizer.decode([int(logits.argmax())]) == " Paris"
