"""A teacher behind an API, played by a local server: asked within a budget, once, and heard as rankings or grades."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from typer.testing import CliRunner

from genrail.cli.commands import app
from genrail.engine import Engine
from genrail.errors import ApiError, FingerprintError, SettingsError
from genrail.integrations.api_teacher import TeacherSettings, api_teacher
from genrail.integrations.chat_api import ChatApi
from genrail.types import Query
from tests.finders.test_fine_tuning import QUICK, engine, shop
from tests.integrations.test_chat_api import running, server  # noqa: F401  # fixtures

CATALOG = shop()


def shown(body):
    """List the titles of the products in a question."""
    lines = body["messages"][1]["content"].split("Products:\n")[1].splitlines()
    return [json.loads(line.split(". ", 1)[1]) for line in lines if line[:1].isdigit()]


def backwards(body):
    return {"numbers": list(range(len(shown(body)), 0, -1))}


def made(server, **settings):  # noqa: F811
    own = {"lanes": ("bm25",), "candidates": 4, "at_once": 1, **settings}
    return api_teacher(ChatApi(server.url, "big"), CATALOG, TeacherSettings(**own))


def told(teacher, *texts):
    return [one.item_ids for one in teacher.search_batch([Query(text) for text in texts], 3)]


WORDS = list(dict.fromkeys(word for title in CATALOG.titles for word in title.split()))


def test_candidates_come_in_the_order_that_it_names(server):  # noqa: F811
    server.say = backwards
    teacher = made(server)
    [first] = told(teacher, WORDS[0])
    titles = shown(server.bodies[0])
    assert [CATALOG.titles[CATALOG.row(one)] for one in first] == titles[::-1][:3]
    server.say = lambda body: {"numbers": [2, 2, 99, "3"]}
    assert told(made(server), WORDS[0]) == [[CATALOG.item_ids[CATALOG.titles.index(titles[1])]]]


def test_labels_are_grades_and_zero_is_no_answer(server):  # noqa: F811
    server.say = lambda body: {"grades": [0, 3, *[1] * (len(shown(body)) - 2)]}
    [found] = told(made(server, says="labels"), WORDS[0])
    titles = shown(server.bodies[0])
    assert [CATALOG.titles[CATALOG.row(one)] for one in found] == titles[1:4]
    assert "Grade each" in server.bodies[0]["messages"][1]["content"]
    server.say = lambda body: {"grades": [1]}
    with pytest.raises(ApiError, match="other grades than the 4"):
        told(made(server, says="labels"), WORDS[0])


def test_beyond_the_budget_nothing_is_asked_and_it_is_counted(server, tmp_path):  # noqa: F811
    server.say = backwards
    path = str(tmp_path / "answers.jsonl")
    teacher = made(server, budget=1, file=path)
    found = told(teacher, WORDS[0], "please", WORDS[0])  # a question twice
    assert len(server.bodies) == 1 and found[0] == found[2]
    other = WORDS[1]
    assert told(teacher, other) == [[]] and len(server.bodies) == 1
    assert teacher.edition.finder.summary() == "big (API): 1 asked, 0 known, 2 over the budget"
    again = made(server, budget=1, file=path)  # goes on where it ended
    assert told(again, WORDS[0], other)[0] == found[0] and len(server.bodies) == 2
    assert again.edition.finder.counts == {"asked": 1, "known": 1, "over the budget": 0}
    with pytest.raises(FingerprintError, match="says differ"):
        made(server, says="labels", file=path)


def test_what_was_answered_before_a_failure_is_kept(server, tmp_path):  # noqa: F811
    def say(body):
        if len(server.bodies) > 1:
            server.status = 500
        return backwards(body)

    server.say = say
    path = str(tmp_path / "answers.jsonl")
    words = WORDS[:2]
    with pytest.raises(ApiError, match="answered 500"):
        told(made(server, file=path), *words)
    assert len(server.bodies) == 3  # the second was tried twice
    server.status, server.say = 200, backwards
    told(made(server, file=path), *words)
    assert len(server.bodies) == 4


def test_a_language_model_is_distilled_from_it(server):  # noqa: F811
    server.say = backwards
    own = engine()
    teacher = made(server, budget=5)
    report = own.train(recipe="distill", teacher=teacher, **QUICK | {"pseudo_queries": 1, "loss": "listwise"})
    counts = teacher.edition.finder.counts
    assert counts["asked"] == 5 and counts["over the budget"] > 0
    assert report.pairs == {"teacher": len(CATALOG)}  # those beyond the budget are taught by their own item


def test_the_command_reaches_for_an_address(server, tmp_path):  # noqa: F811
    server.say = backwards
    engine().save(tmp_path / "e")
    (tmp_path / "key").write_text("secret\n")
    words = ["train", str(tmp_path / "e"), "--recipe", "distill", "--teacher", server.url]
    for name, value in {"learns": "all", "pseudo_queries": 1, "epochs": 1, "validation": 0}.items():
        words += ["--set", f"{name}={value}"]
    own = ["--teacher-set", "lanes=bm25", "--teacher-set", "budget=3", "--teacher-key", str(tmp_path / "key")]
    done = CliRunner().invoke(app, [*words, "--teacher-model", "big", *own, "--json"])
    assert done.exit_code == 0, done.output
    assert len(server.bodies) == 3 and server.headers[0]["Authorization"] == "Bearer secret"
    assert "big (API): 3 asked" in done.stderr
    for wrong, sentence in {
        ("--teacher-set", "lanes=bm25"): "give --teacher-model",
        ("--teacher-model", "big", "--teacher-set", "money=3"): "no setting money",
    }.items():
        refused = CliRunner().invoke(app, [*words, *wrong])
        assert refused.exit_code == 2 and sentence in refused.stderr
    alone = CliRunner().invoke(app, ["train", str(tmp_path / "e"), "--teacher-model", "big"])
    assert alone.exit_code == 2 and "belongs to --teacher" in alone.stderr


@pytest.mark.parametrize("wrong", [{"says": "yes"}, {"candidates": 1}, {"budget": -1}, {"lanes": ()}, {"tries": 0}])
def test_settings_outside_their_range_are_errors(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        TeacherSettings(**wrong)


def test_a_teacher_of_another_catalogue_is_refused(server):  # noqa: F811
    with pytest.raises(SettingsError, match="build both from the same file"):
        Engine(engine(8).edition).train(recipe="distill", teacher=made(server))
