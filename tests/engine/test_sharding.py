"""A catalogue in shards becomes the engine of the whole catalogue, whatever happens on the way."""

import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from genrail import Engine
from genrail.catalog import Catalog
from genrail.cli.main import app
from genrail.engine.shard_assembly import assemble
from genrail.engine.shard_plan import ShardPlan, ShardSettings, plan_shards
from genrail.engine.sharding import manifest, read_output, run_shards
from genrail.errors import CatalogError, DamagedError, FingerprintError, FormatError, SettingsError, StorageError
from genrail.finders.generative import generative_part
from genrail.identifiers import SemanticIds
from genrail.models.tiny import HashingEncoder
from genrail.rng import generator
from tests.engine.shard_crasher import put_together, work
from tests.shops import shop

SIZES = (17, 1, 30, 12)


def write_shards(folder, frame=None, sizes=SIZES):
    """Cut a shop into Parquet shards of these sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = shop(sum(sizes)).frame if frame is None else frame
    begin = 0
    for number, size in enumerate(sizes):
        frame[begin : begin + size].write_parquet(folder / f"items-{number:02d}.parquet")
        begin += size
    return folder


@pytest.fixture
def catalog(tmp_path):
    return write_shards(tmp_path / "catalog")


@pytest.fixture
def plan(catalog, tmp_path):
    return plan_shards(catalog, tmp_path / "shards", encoder="hashing")


def same_engine(first, second):
    assert first.catalog.fingerprint == second.catalog.fingerprint
    assert generative_part(first.edition.finder).table == generative_part(second.edition.finder).table
    for words in ("red boot", "blue clog 1", "something else"):
        one, two = first.search(words, k=5, where="price < 60"), second.search(words, k=5, where="price < 60")
        assert [hit.item_id for hit in one] == [hit.item_id for hit in two] and one.exhausted == two.exhausted
        # Two trainings add up in the same order, but where arrays begin in memory moves the last bits of a sum.
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in two], abs=1e-4)


# --- equality with an ordinary build ----------------------------------------------------------------------------------


def test_the_engine_from_shards_is_that_of_the_whole_catalogue(plan, tmp_path):
    run_shards(plan)
    put_together = assemble(plan)
    whole = Engine.build(Catalog.from_frame(shop(sum(SIZES)).frame), encoder="hashing")
    same_engine(put_together, whole)
    put_together.save(tmp_path / "shop.genrail")
    same_engine(Engine.load(tmp_path / "shop.genrail"), whole)


def test_frozen_codebooks_of_a_sample_number_the_whole_catalogue_as_one(catalog, tmp_path):
    plan = plan_shards(catalog, tmp_path / "s", encoder="hashing", settings=ShardSettings(codes=4, sample=20, seed=3))
    run_shards(plan)
    table = generative_part(assemble(plan, epochs=2).edition.finder).table
    whole = Catalog.from_frame(shop(sum(SIZES)).frame)
    order = generator(3, "de-duplicating codes").permutation(len(whole))
    assert table == plan.identifiers().assign(HashingEncoder().encode(whole.texts()), order=order)
    assert len(np.unique(table.matrix(), axis=0)) == len(whole)


def test_codes_that_were_assigned_before_are_numbered_as_by_assign():
    vectors = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    ids = SemanticIds.fit(vectors, levels=2, codes=5)
    order = np.random.default_rng(1).permutation(200)
    parts = [ids.quantizer.assign(part) for part in np.array_split(vectors, 7)]
    assert ids.number(np.concatenate(parts), order=order) == ids.assign(vectors, order=order)


def test_another_plan_can_use_the_same_codebooks(plan, tmp_path):
    other = write_shards(tmp_path / "other", shop(90).frame[60:], (10, 20))
    later = plan_shards(other, tmp_path / "later", encoder="hashing", codebooks=plan.folder)
    assert later.codebooks == plan.codebooks
    run_shards(later)
    assert len(assemble(later, epochs=2)) == 30


def test_training_on_some_items_still_finds_all(plan):
    run_shards(plan)
    engine = assemble(plan, train_items=10)
    assert len(engine.search("boot", k=sum(SIZES)).item_ids) == sum(SIZES)
    with pytest.raises(SettingsError, match="train_items"):
        assemble(plan, train_items=0)


# --- running, resuming, damage ----------------------------------------------------------------------------------------


def test_each_share_runs_its_shards_and_all_shares_run_all(plan):
    shares = [run_shards(plan, f"{number}/3") for number in (1, 2, 3)]
    assert [[status.name[6:8] for status in share] for share in shares] == [["00", "03"], ["01"], ["02"]]
    assert [(status.status, status.rows) for status in manifest(plan)] == [("done", size) for size in SIZES]


def test_what_is_done_is_skipped_and_the_same_again_gives_the_same_bytes(plan):
    run_shards(plan)
    before = {path.name: path.stat().st_mtime_ns for path in plan.outputs.iterdir()}
    run_shards(plan)
    assert {path.name: path.stat().st_mtime_ns for path in plan.outputs.iterdir()} == before
    outputs = {status.output_sha256 for status in manifest(plan)}
    shutil.rmtree(plan.outputs)
    plan.outputs.mkdir()
    run_shards(plan)
    assert {status.output_sha256 for status in manifest(plan)} == outputs


def test_several_workers_on_the_same_shards_at_once_leave_whole_ones(plan):
    context = multiprocessing.get_context("forkserver")
    processes = []
    for _ in range(3):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(plan.folder, sender), daemon=True)
        process.start()
        processes.append((process, receiver))
    for process, _ in processes:
        process.join(60)
        assert process.exitcode == 0
    assert all(status.status == "done" for status in manifest(plan))
    assert not list(plan.outputs.glob("*.part"))


def test_killed_at_any_moment_no_half_shard_is_taken_for_whole_and_the_rest_goes_on(plan):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.engine.shard_crasher"])
    for seed in range(20):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(plan.folder, sender), daemon=True)
        process.start()
        sender.close()
        assert receiver.recv() == "ready"
        time.sleep(random.Random(seed).uniform(0, 0.03))
        process.kill()
        process.join()
        said = set()
        while receiver.poll():
            try:
                said.add(receiver.recv())
            except EOFError:
                break
        receiver.close()
        found = manifest(plan)
        assert {status.status for status in found} <= {"done", "missing"}, f"kill {seed}"
        assert said - {"end"} <= {status.name for status in found if status.status == "done"}, f"kill {seed}"
        for path in plan.outputs.glob("*.parquet.json"):
            if random.Random(str(seed) + path.name).random() < 0.5:
                path.unlink()  # so that the next process has work
    run_shards(plan)
    assert len(assemble(plan, epochs=2)) == sum(SIZES)


@pytest.mark.parametrize("which", ["*.parquet-*", "*.parquet.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_output_or_page_is_seen_and_done_again(plan, which, harm):
    run_shards(plan)
    path = sorted(plan.outputs.glob(which))[2]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"flip": bytes(data), "cut": bytes(data[: len(data) // 2]), "empty": b""}[harm])
    assert [status.status for status in manifest(plan)] == ["done", "done", "damaged", "done"]
    with pytest.raises(StorageError, match=r"1 of 4 shards are not done \(items-02.parquet is damaged\); run them"):
        assemble(plan)
    run_shards(plan)
    assert len(read_output(plan, plan.shards[2]).item_ids) == SIZES[2]


def test_shards_may_lie_elsewhere_on_the_machine_that_runs_them(plan, catalog, tmp_path):
    catalog.rename(tmp_path / "moved")
    with pytest.raises(DamagedError, match="--catalog"):
        run_shards(plan)
    run_shards(ShardPlan.load(plan.folder, tmp_path / "moved"))
    assert all(status.status == "done" for status in manifest(plan))


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_shard_that_changed_after_the_plan_is_refused(plan, catalog):
    shop(17).frame.with_columns(pl.col("price") + 1).write_parquet(catalog / "items-00.parquet")
    with pytest.raises(DamagedError, match="changed after it was planned"):
        run_shards(plan)


def test_a_folder_without_shards_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CatalogError, match="no shards found"):
            plan_shards(place, tmp_path / "shards", encoder="hashing")


def test_shards_of_different_schemas_are_refused(catalog, tmp_path):
    shop(5).frame.with_columns(pl.col("price").cast(pl.String)).write_parquet(catalog / "items-01.parquet")
    with pytest.raises(
        CatalogError, match=r'items-01.parquet: its schema differs .* "price" \(String here, Int64 there'
    ):
        plan_shards(catalog, tmp_path / "shards", encoder="hashing")


def test_a_shard_that_is_no_parquet_is_refused(catalog, tmp_path):
    (catalog / "items-01.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CatalogError, match="items-01.parquet: the shard is damaged"):
        plan_shards(catalog, tmp_path / "shards", encoder="hashing")


def test_an_id_in_two_shards_is_refused_when_they_are_put_together(tmp_path):
    frame = pl.concat([shop(30).frame, shop(3).frame])
    plan = plan_shards(write_shards(tmp_path / "c", frame, (20, 13)), tmp_path / "shards", encoder="hashing")
    run_shards(plan)
    with pytest.raises(CatalogError, match=r"3 item ids .* \('s0' in items-00.parquet and items-01.parquet\)"):
        assemble(plan)


def test_codebooks_of_another_encoder_are_refused(plan, catalog, tmp_path):
    with pytest.raises(FingerprintError, match="belong to the text encoder 'hashing-128'"):
        run_shards(plan, encoder=HashingEncoder(64))
    with pytest.raises(FingerprintError, match="belong to the text encoder"):
        plan_shards(catalog, tmp_path / "other", encoder=HashingEncoder(64), codebooks=plan.folder)


def test_other_codebooks_than_those_of_the_plan_are_refused(plan):
    vectors = np.random.default_rng(0).normal(size=(50, 128)).astype(np.float32)
    SemanticIds.fit(vectors, 3, 15).save(plan.folder / "codebooks")
    with pytest.raises(FingerprintError, match="the plan was made with"):
        run_shards(plan)


def test_outputs_of_another_plan_are_stale(plan, catalog, tmp_path):
    run_shards(plan)
    settings = ShardSettings(seed=9)
    other = plan_shards(catalog, tmp_path / "other", encoder="hashing", settings=settings)
    for path in plan.outputs.iterdir():
        shutil.copy(path, other.outputs)
    assert {status.status for status in manifest(other)} == {"stale"}
    run_shards(other)
    assert {status.status for status in manifest(other)} == {"done"}


def test_the_same_plan_again_is_no_news_and_another_catalogue_is_refused(plan, catalog, tmp_path):
    before = (plan.folder / "plan.json").read_bytes()
    plan_shards(catalog, plan.folder, encoder="hashing")
    assert (plan.folder / "plan.json").read_bytes() == before
    other = write_shards(tmp_path / "other", shop(70).frame[10:])
    with pytest.raises(FingerprintError, match=r"another catalogue or of other settings \(shards differ\)"):
        plan_shards(other, plan.folder, encoder="hashing")
    with pytest.raises(FingerprintError, match="settings differ"):
        plan_shards(catalog, plan.folder, encoder="hashing", settings=ShardSettings(seed=1))


def test_a_plan_that_is_absent_altered_or_something_else_is_refused(plan, tmp_path):
    with pytest.raises(FormatError, match="genrail shard plan"):
        ShardPlan.load(tmp_path)
    path = plan.folder / "plan.json"
    path.write_bytes(path.read_bytes().replace(b"items-01", b"items-11"))
    with pytest.raises(DamagedError, match="checksum"):
        ShardPlan.load(plan.folder)


@pytest.mark.parametrize("which", ["0/3", "4/3", "3", "a/b", "items-99.parquet", ""])
def test_a_share_that_does_not_exist_is_refused(plan, which):
    with pytest.raises(SettingsError, match="--shard"):
        run_shards(plan, which)


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"codes": 0}, {"sample": 0}, {"seed": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        ShardSettings(**wrong)


# --- the commands -----------------------------------------------------------------------------------------------------


def killed_while_put_together(plan, out, messages, delay):
    """Kill an assembly so many seconds after its n-th message, or after the one before it publishes; return all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.engine.shard_crasher"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=put_together, args=(plan.folder, out, sender), daemon=True)
    process.start()
    sender.close()
    said = [receiver.recv()]
    while len(said) < messages and said[-1] != "save":
        said.append(receiver.recv())
    time.sleep(delay)
    process.kill()
    process.join()
    receiver.close()
    return said


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_an_assembly_killed_at_any_stage_leaves_the_shards_and_no_half_engine(plan, tmp_path):
    run_shards(plan)
    out, chance = tmp_path / "shop.genrail", random.Random(0)
    before = {path: path.read_bytes() for path in plan.outputs.iterdir()}
    while_saving, kills = 0, 0
    while while_saving < 4:
        kills += 1
        said = killed_while_put_together(plan, out, kills, chance.uniform(0, 0.05) if while_saving else 0)
        while_saving += said[-1] == "save"
        assert {path: path.read_bytes() for path in plan.outputs.iterdir()} == before, said
        if (out / "CURRENT").exists():
            assert len(Engine.load(out)) == sum(SIZES), said
        else:
            with pytest.raises(StorageError):
                Engine.load(out)
    assemble(plan, pseudo_queries=1, epochs=1).save(out)
    assert len(Engine.load(out)) == sum(SIZES)


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_commands_lead_from_shards_to_an_engine(catalog, tmp_path):
    shards, engine = tmp_path / "shards", tmp_path / "shop.genrail"
    assert command("shard", "plan", catalog, "--out", shards, "--encoder", "hashing").exit_code == 0
    early = command("shard", "assemble", shards, "--out", engine)
    assert early.exit_code == 2
    assert "4 of 4 shards are not done" in early.stderr.replace("\n", " ")
    assert not engine.exists()
    with ThreadPoolExecutor(2) as pool:
        shares = list(pool.map(lambda share: command_in_process(share, shards), ("1/2", "2/2")))
    assert shares == [0, 0]
    found = json.loads(command("shard", "status", shards, "--json").stdout)["shards"]
    assert [page["status"] for page in found] == ["done"] * 4
    assert command("shard", "status", shards).exit_code == 0
    made = command("shard", "assemble", shards, "--out", engine, "--max-seconds", "0.1", "--json")
    assert json.loads(made.stdout)["items"] == sum(SIZES)
    assert command("search", engine, "red boot").exit_code == 0


def command_in_process(share, shards):
    code = "from genrail.cli.main import run; run()"
    words = [sys.executable, "-c", code, "shard", "run", str(shards), "--shard", share]
    return subprocess.run(words, capture_output=True, check=False).returncode


def test_mistakes_end_in_one_sentence_and_exit_code_2(tmp_path):
    for words in (("plan", tmp_path, "--out", tmp_path / "s"), ("run", tmp_path), ("status", tmp_path / "x")):
        result = command("shard", *words)
        assert result.exit_code == 2
        assert "error: " in result.stderr
        assert "Traceback" not in result.stderr
