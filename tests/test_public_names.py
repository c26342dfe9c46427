"""The first page: what `import genrail` offers, and what it costs."""

import re
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path

import pytest

import genrail


@pytest.mark.parametrize("name", genrail.__all__)
def test_every_public_name_is_there(name):
    assert getattr(genrail, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Catalogue'"):
        genrail.Catalogue  # noqa: B018


def loaded_after(code):
    """List the heavy packages that are loaded after running some code in a process of its own."""
    watched = ("torch", "transformers", "sentence_transformers", "polars", "numba", "sklearn", "matplotlib")
    script = f"{code}\nimport sys\nprint(*[name for name in {watched!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        pytest.param("import genrail", set(), id="import genrail"),
        pytest.param("import genrail.cli.main", set(), id="the command line"),
        pytest.param("import genrail.catalog", {"polars"}, id="catalog"),
        pytest.param("import genrail; genrail.Catalog, genrail.BM25, genrail.compare", {"polars", "numba"}, id="BM25"),
        pytest.param("import genrail.constraints; genrail.constraints.Trie", {"numba"}, id="constraints"),
    ],
)
def test_heavy_packages_are_loaded_only_when_needed(code, allowed):
    assert set(loaded_after(code)) <= allowed


def levels():
    """Read the table of docs/stability.md: package to the names of its two columns."""
    page = (Path(__file__).resolve().parents[1] / "docs/stability.md").read_text()
    rows = re.findall(r"^\| `(genrail[\w.]*)` \|([^|]*)\|([^|]*)\|$", page, re.MULTILINE)
    return {package: [re.findall(r"`(\w+)`", cell) for cell in cells] for package, *cells in rows}


@pytest.mark.parametrize("package", levels())
def test_every_public_name_has_a_level_and_a_docstring(package):
    module = import_module(package)
    names = sorted(name for name in module.__all__ if not name.startswith("__"))
    assert names == sorted(name for column in levels()[package] for name in column)
    plain = {name for name in names if isinstance(getattr(module, name), int | tuple | dict | types.GenericAlias)}
    described = [name for name in names if (getattr(module, name).__doc__ or "").strip()]
    assert set(names) - plain <= {*described, "NewItems", "Json"}


def test_every_package_with_public_names_has_levels_and_every_settings_class_is_one():
    root = Path(genrail.__file__).parent
    packages = {f"genrail.{path.parent.name}" for path in root.glob("*/__init__.py") if "__all__" in path.read_text()}
    assert packages <= levels().keys()
    public = {name for columns in levels().values() for column in columns for name in column}
    settings = {
        name
        for path in root.rglob("*.py")
        for name in re.findall(r"^class (\w+(?:Settings|Recipe))\b", path.read_text(), re.MULTILINE)
        if path.parent.name != "integrations"  # each behind its own framework
    }
    assert sorted(settings - public) == []
