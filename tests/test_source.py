"""No code path that could run what a file holds: checked over our own source, so that none can slip in."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
MODULES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "yaml"}
CALLS = {"eval", "exec", "torch.load", "numpy.fromfile", "os.system"}
ARGUMENTS = {"allow_pickle": True, "trust_remote_code": True, "shell": True, "weights_only": False}


def offences(tree):
    """List what should not be there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield node.module
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS:
                yield f"{name}()"
            for given in node.keywords:
                if given.arg in ARGUMENTS and getattr(given.value, "value", None) is ARGUMENTS[given.arg]:
                    yield f"{name}({given.arg}={given.value.value})"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_pickle_no_remote_code_no_shell(path):
    assert list(offences(ast.parse(path.read_text()))) == []


def test_the_check_finds_what_it_looks_for():
    code = (
        "import pickle\nfrom joblib import load\neval('1')\nf(allow_pickle=True, trust_remote_code=True)\ntorch.load(x)"
    )
    assert len(list(offences(ast.parse(code)))) == 6
