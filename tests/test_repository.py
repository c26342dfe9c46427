"""The files that a public host reads agree with the package: versions, workflows, Pythons."""

import re
import tomllib
from pathlib import Path

import pytest

import genrail

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_everywhere():
    assert PROJECT["version"] == genrail.__version__
    assert f"version: {genrail.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_python_that_is_named_is_tested():
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    [tested] = re.findall(r"python: \[(.*)\]", (ROOT / ".github/workflows/ci.yml").read_text())
    assert re.findall(r"3\.\d+", tested) == named
    assert PROJECT["requires-python"] == f">={named[0]}"


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_what_the_host_reads_is_yaml(path):
    yaml = pytest.importorskip("yaml")
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_workflows_call_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = re.findall(r"run: make ([a-z -]+)", "".join(p.read_text() for p in (ROOT / ".github/workflows").iterdir()))
    assert called and {word for words in called for word in words.split()} <= targets


def test_extras_that_the_readme_names_exist():
    text = (ROOT / "README.md").read_text()
    table = text[text.index("| extra | brings |") :].split("\n\n")[0]
    named = [name for line in table.splitlines()[2:] for name in re.findall(r"`([\w-]+)`", line.split("|")[1])]
    assert named and set(named) <= set(PROJECT["optional-dependencies"])
