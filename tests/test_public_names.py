"""The first page: what `import genrail` offers, and what it costs."""

import subprocess
import sys

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
