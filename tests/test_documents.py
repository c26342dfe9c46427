"""README, docs and examples are run, so that they stay true."""

import ast
import re
import shlex
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from genrail.cli.main import app
from genrail.finding import kinds

ROOT = Path(__file__).resolve().parents[1]
SITE = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "llms.txt", ROOT / "examples/README.md", ROOT / "SECURITY.md", *SITE]
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


@pytest.mark.timeout(900)  # the README builds the demo shop, texts of 3,000 products included
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


GENERATED = re.compile(r"<!-- (names of|commands|decisions)")  # the site fills these pages; `mkdocs build` checks them


def anchors(document):
    """List what can be linked to within a page, as GitHub and the site name it."""
    headings = re.findall(r"^#+ (.*)", FENCE.sub("", document.read_text()), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


def test_links_of_documents_lead_somewhere():
    broken = []
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", FENCE.sub("", document.read_text())):
            path, _, anchor = target.partition("#")
            page = document.parent / path if path else document
            known = page.suffix != ".md" or not page.exists() or GENERATED.search(page.read_text())
            if not page.exists() or (anchor and not known and anchor not in anchors(page)):
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert broken == []


def test_no_line_of_prose_is_wider_than_a_screen():
    """Tables, links and code are as wide as they are; sentences are wrapped."""
    wide = [
        f"{document.relative_to(ROOT)}:{number}"
        for document in DOCUMENTS
        for number, line in enumerate(document.read_text().splitlines(), 1)
        if len(line) > 120 and not line.startswith(("|", "#", "![", " ", "<", ">"))
    ]
    assert wide == []


def test_the_readme_names_every_kind_of_finder():
    listed = (ROOT / "README.md").read_text()
    assert [kind for kind in kinds() if f"`{kind}`" not in listed] == []


def test_every_page_is_in_the_site():
    listed = (ROOT / "mkdocs.yml").read_text()
    missing = [
        name
        for path in SITE
        if (name := str(path.relative_to(ROOT / "docs"))) not in listed and not name.startswith("decisions/0")
    ]
    assert missing == []


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path, monkeypatch):
    mkdocs = pytest.importorskip("mkdocs.commands.build", reason='the site needs pip install "genrail[site]"')
    pytest.importorskip("material", reason='the site needs pip install "genrail[site]"')
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that we do not steer
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"))
        mkdocs.build(config)  # strict: a warning, such as of a dead link, is an error
    pages = list((tmp_path / "site").rglob("*.html"))
    loads = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"(https?:[^\"]+)|<link[^>]+stylesheet[^>]+href=\"(https?:[^\"]+)"
    )
    assert len(pages) > 40
    assert [found for page in pages for found in loads.findall(page.read_text())] == []
