"""Frameworks stay outside until their adapter is imported, and one that is missing is named with its extra."""

from __future__ import annotations

import subprocess
import sys

import pytest

from genrail.errors import MissingPackageError


def test_importing_genrail_imports_no_framework():
    code = (
        "import sys, genrail, genrail.engine, genrail.integrations.filters, genrail.cli.main\n"
        "print(sorted({'langchain_core', 'llama_index', 'haystack'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize(
    ("adapter", "package", "extra"),
    [
        ("langchain", "langchain_core", "langchain"),
        ("llama_index", "llama_index.core", "llama-index"),
        ("haystack", "haystack", "haystack"),
    ],
)
def test_a_missing_framework_is_one_sentence_with_its_extra(monkeypatch, adapter, package, extra):
    for name in [name for name in sys.modules if name.split(".")[0] == package.split(".")[0]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"genrail.integrations.{adapter}", raising=False)
    with pytest.raises(MissingPackageError, match=rf"genrail\[{extra}\]"):
        __import__(f"genrail.integrations.{adapter}")
