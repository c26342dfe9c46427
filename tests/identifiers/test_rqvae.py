"""RQ-VAE learns, keeps its codes alive, and assigns without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from genrail.errors import DamagedError, MissingPackageError, SettingsError
from genrail.identifiers import SemanticIds, rqvae
from genrail.identifiers.quality import measure
from genrail.identifiers.rqvae import RQVAE

BEAUTY = Path(__file__).parents[2] / "../shared/data/amazon_beauty/minilm_f16.npz"
SMALL = {"latent": 8, "hidden": (24,), "batch": 100, "learning_rate": 5e-3}


def bundles(rows=400, dimensions=16, clusters=12):
    random = np.random.default_rng(0)
    bundle = random.integers(clusters, size=rows)
    vectors = random.normal(size=(clusters, dimensions))[bundle] + 0.2 * random.normal(size=(rows, dimensions))
    return vectors.astype(np.float32)


def error(quantizer, vectors):
    return float(((quantizer.decode(quantizer.assign(vectors)) - vectors) ** 2).sum(axis=1).mean())


def test_training_lowers_the_error():
    vectors = bundles()
    short, long = (RQVAE(2, 16, epochs=epochs, **SMALL).fit(vectors) for epochs in (1, 40))
    assert error(long, vectors) < 0.5 * error(short, vectors)


def test_codes_stay_alive():
    vectors = bundles()
    codes = RQVAE(3, 32, epochs=40, **SMALL).fit(vectors).assign(vectors)
    assert min(len(np.unique(column)) for column in codes.T) >= 0.8 * 32


def test_dimensions_of_any_scale_count_alike():
    vectors = bundles()
    stretched = vectors * np.logspace(-3, 3, 16, dtype=np.float32) + 5
    quantizer = RQVAE(3, 32, epochs=40, **SMALL).fit(stretched)
    left = quantizer.decode(quantizer.assign(stretched)) - stretched
    assert (left.var(axis=0) < 0.8 * stretched.var(axis=0)).all()


def test_a_dimension_that_never_changes_is_no_division_by_zero():
    vectors = bundles()
    vectors[:, 3] = 7
    quantizer = RQVAE(2, 8, epochs=5, **SMALL).fit(vectors)
    assert np.isfinite(quantizer.decode(quantizer.assign(vectors))).all()


def test_codes_are_those_of_the_trained_network():
    """NumPy in float64 and torch in float32 see the same encoder."""
    import torch

    vectors = bundles()
    quantizer = RQVAE(1, 8, epochs=5, **SMALL).fit(vectors)
    arrays = quantizer._arrays
    hidden = torch.from_numpy((vectors - arrays["mean"]) / arrays["spread"])
    for layer in (0, 1):
        weight, bias = (torch.from_numpy(arrays[f"encoder.{layer}.{name}"].copy()) for name in ("weight", "bias"))
        hidden = torch.nn.functional.linear(hidden, weight, bias)
        hidden = torch.relu(hidden) if layer == 0 else hidden
    nearest = torch.cdist(hidden, torch.from_numpy(quantizer.codebooks[0].copy())).argmin(dim=1)
    assert (nearest.numpy() == quantizer.assign(vectors)[:, 0]).mean() > 0.99


def test_progress_counts_epochs():
    seen = []
    RQVAE(1, 4, epochs=3, **SMALL).fit(bundles(), progress=lambda done, all_: seen.append((done, all_)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_it_makes_semantic_ids(tmp_path):
    vectors = bundles()
    ids = SemanticIds.fit(vectors, quantizer=RQVAE(2, 8, epochs=10, **SMALL))
    table = ids.assign(vectors)
    assert len(np.unique(table.matrix(), axis=0)) == len(vectors)
    ids.save(tmp_path)
    assert SemanticIds.load(tmp_path).assign(vectors) == table


def test_a_saved_one_assigns_without_torch(tmp_path):
    vectors = bundles()
    quantizer = RQVAE(2, 8, epochs=2, **SMALL).fit(vectors)
    quantizer.save(tmp_path)
    np.save(tmp_path / "vectors.npy", vectors)
    code = (
        "import sys, numpy as np; from genrail.identifiers.quantizer import load_quantizer\n"
        "codes = load_quantizer(sys.argv[1]).assign(np.load(sys.argv[1] + '/vectors.npy'))\n"
        "assert 'torch' not in sys.modules; print(codes.tolist())"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == quantizer.assign(vectors).tolist()


def test_without_torch_fitting_names_the_extra(monkeypatch):
    monkeypatch.setattr(rqvae, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r'pip install "genrail\[torch\]"'):
        RQVAE(1, 4, **SMALL).fit(bundles())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("levels", 0),
        ("codes", 0),
        ("latent", 0),
        ("hidden", (8, 0)),
        ("epochs", 0),
        ("batch", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("commitment", float("inf")),
    ],
)
def test_settings_out_of_range(setting, value):
    with pytest.raises(SettingsError, match=setting):
        RQVAE(**{setting: value})


def test_weights_that_do_not_fit_their_page_are_refused(tmp_path):
    RQVAE(1, 4, epochs=1, **SMALL).fit(bundles()).save(tmp_path)
    page = tmp_path / "codebooks.json"
    whole = json.loads(page.read_text())
    page.write_text(json.dumps(whole | {"details": whole["details"] | {"latent": 9}}))
    with pytest.raises(DamagedError, match="does not describe an RQ-VAE"):
        RQVAE.load(tmp_path)
    page.write_text(json.dumps(whole | {"details": whole["details"] | {"hidden": [24, 24]}}))
    with pytest.raises(DamagedError, match="does not describe an RQ-VAE"):
        RQVAE.load(tmp_path)


@pytest.mark.slow
def test_on_beauty_at_least_80_percent_of_the_codes_are_used():
    if not BEAUTY.exists():
        pytest.skip("../shared/data is absent: real vectors are not quantized")
    vectors = np.load(BEAUTY)["e"].astype(np.float32)
    ids = SemanticIds.fit(vectors, quantizer=RQVAE(epochs=60))
    report = measure(ids.assign(vectors), codes=256)
    assert all(level.use >= 0.8 for level in report.levels)
