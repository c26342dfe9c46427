"""Two processes train as one does: the same weights on both, and to rounding those of one with the same batches."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file

from genrail.training.processes import Processes, joined

SCRIPT = """
import sys
from pathlib import Path

from safetensors.torch import save_file

from genrail.training.processes import joined
from tests.finders.test_fine_tuning import QRELS, QUERIES, QUICK, engine

with joined() as processes:
    own = engine()
    settings = {**QUICK, "epochs": 3, "validation": 4, "learning_rate": 1e-3}
    report = own.train(queries=QUERIES, qrels=QRELS, checkpoint=str(Path(sys.argv[1]) / "kept.safetensors"), **settings)
    name = f"of-{processes.count}-{processes.rank}.safetensors"
    weights = own.edition.finder.spelling.model.model.state_dict()
    save_file({key: value.clone() for key, value in weights.items()}, Path(sys.argv[1]) / name,
              {"nDCG": str(report.loop.best["nDCG@10"]), "steps": str(report.loop.steps)})
"""


def test_one_process_talks_to_nobody():
    alone = Processes.here()
    weight = torch.nn.Parameter(torch.ones(2))
    assert alone == Processes() and alone.first and alone.own([1, 2, 3]) == [1, 2, 3]
    assert alone.add_gradients([weight], 0.5) == 0.5 and weight.grad is None
    assert alone.same(2.0) == 2.0 and alone.any(True) and not alone.any(False)
    assert alone.told({"a": 1.0}) == {"a": 1.0} and alone.told(None) == {}
    with joined() as processes:
        assert processes == alone


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    paths = ":".join(path for path in ["", *sys.path] if path is not None)
    environment = {"PYTHONPATH": paths, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, str(script), str(tmp_path / "one")], check=True, env=environment)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, str(script), str(tmp_path / "two")], check=True, env=environment)
    first, second = (load_file(tmp_path / "two" / f"of-2-{rank}.safetensors") for rank in (0, 1))
    alone = load_file(tmp_path / "one" / "of-1-0.safetensors")
    for name, weight in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], weight, atol=2e-4, rtol=1e-2, msg=name)
    assert (tmp_path / "two" / "kept.safetensors").exists()
