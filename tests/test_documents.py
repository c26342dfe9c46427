"""README, docs and examples are run, so that they stay true."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from genrail.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"(?P<mark><!-- not run: [^>]+-->\n)?```(?P<language>\w*)\n(?P<code>.*?)```", re.DOTALL)


def blocks(document):
    """List (language, code) of the blocks that are run; a block is left out only by a comment that says why."""
    return [(found["language"], found["code"]) for found in FENCE.finditer(document.read_text()) if not found["mark"]]


def run_python(code, namespace, name):
    """Run a block; the value of a last expression is what a reader would see."""
    exec(compile(ast.parse(code), name, "exec"), namespace)  # noqa: S102  our own documents


def run_commands(code):
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "genrail":
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"


@pytest.mark.parametrize(
    "document",
    [pytest.param(path, id=str(path.relative_to(ROOT))) for path in DOCUMENTS if blocks(path)],
)
def test_every_block_of_a_document_runs(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for number, (language, code) in enumerate(blocks(document)):
        if language == "python":
            run_python(code, namespace, f"{document.name}, block {number}")
        elif language in ("sh", "console"):
            run_commands(code)


def test_relative_links_of_documents_lead_somewhere():
    broken = [
        f"{document.name}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert broken == []
