"""Shards on a real local Ray give the engine of an ordinary build. Run by `make test-ray`."""

import importlib.util
import json

import pytest
from typer.testing import CliRunner

from genrail import Engine
from genrail.catalog import Catalog
from genrail.cli.main import app
from genrail.engine.ray_build import run_shards_on_ray
from genrail.engine.shard_plan import plan_shards
from genrail.engine.sharding import manifest, run_shards
from genrail.errors import DamagedError, MissingPackageError, SettingsError
from tests.engine.test_sharding import SIZES, same_engine, write_shards
from tests.shops import shop

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed; make test-ray runs this in its own environment",
)


@pytest.fixture
def catalog(tmp_path):
    return write_shards(tmp_path / "catalog")


@pytest.fixture(scope="module")
def cluster():
    from genrail.engine.ray_build import start_ray

    ray = start_ray(2)
    yield ray
    ray.shutdown()


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_message_says_what_to_install(catalog, tmp_path):
    plan = plan_shards(catalog, tmp_path / "shards", encoder="hashing")
    with pytest.raises(MissingPackageError, match=r"genrail\[ray\]"):
        run_shards_on_ray(plan)
    result = CliRunner().invoke(app, ["build", str(catalog), "--ray", "--out", str(tmp_path / "shop.genrail")])
    assert result.exit_code == 2
    assert "genrail[ray]" in result.stderr


def test_fewer_than_one_worker_is_refused(catalog, tmp_path):
    with pytest.raises(SettingsError, match="workers"):
        run_shards_on_ray(plan_shards(catalog, tmp_path / "shards", encoder="hashing"), 0)


def test_what_ray_builds_only_can_be_asked_for_with_it(catalog, tmp_path):
    for words in (["--workers", "2"], ["--shards", str(tmp_path / "s")]):
        result = CliRunner().invoke(app, ["build", str(catalog), *words])
        assert result.exit_code == 2
        assert "--ray" in result.stderr
    result = CliRunner().invoke(app, ["build", str(catalog), "--ray", "--model", "x"])
    assert result.exit_code == 2
    assert "--model" in result.stderr


@needs_ray
def test_ray_builds_the_engine_of_the_whole_catalogue(cluster, catalog, tmp_path):
    out = tmp_path / "shop.genrail"
    words = ["build", str(catalog), "--ray", "--workers", "2", "--encoder", "hashing", "--out", str(out), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["items"] == sum(SIZES)
    same_engine(Engine.load(out), Engine.build(Catalog.from_frame(shop(sum(SIZES)).frame), encoder="hashing"))


@needs_ray
def test_ray_goes_on_where_others_stopped(cluster, catalog, tmp_path):
    plan = plan_shards(catalog, tmp_path / "shards", encoder="hashing")
    run_shards(plan, "1/2")
    before = {path: path.stat().st_mtime_ns for path in plan.outputs.iterdir()}
    heard = []
    run_shards_on_ray(plan, 2, lambda stage, done, total: heard.append((done, total)))
    assert heard == [(3, 4), (4, 4)]
    assert all(status.status == "done" for status in manifest(plan))
    assert {path: path.stat().st_mtime_ns for path in before} == before


@needs_ray
def test_an_error_in_a_worker_is_the_error_here(cluster, catalog, tmp_path):
    plan = plan_shards(catalog, tmp_path / "shards", encoder="hashing")
    (catalog / "items-02.parquet").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"items-02.parquet was damaged"):
        run_shards_on_ray(plan, 1)
