"""The commands as a user meets them: from files to answers, and one sentence for every mistake."""

import csv
import gzip
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from genrail.cli.main import app
from tests.shops import COLOURS, KINDS


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def good(*words):
    result = run(*words)
    assert result.exit_code == 0, f"{words}\n{result.output}\n{result.exception!r}"
    return result


def write_csv(path, rows):
    opened = gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="")
    with opened as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def products(number=40):
    return [
        {
            "sku": f"s{row}",
            "name": f"{COLOURS[row % 4]} {KINDS[row % 5]} {row // 20}",
            "price": 10 + row,
            "in_stock": str(row % 3 != 0).lower(),
        }
        for row in range(number)
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write the files of a small shop, and build an engine from them."""
    folder = tmp_path_factory.mktemp("shop")
    write_csv(folder / "products.csv.gz", products())
    events = [
        {"user": f"u{user}", "item": f"s{(user % 5 + 5 * step) % 40}", "timestamp": 100 * user + step}
        for user in range(20)
        for step in range(5)
    ]
    write_csv(folder / "events.csv", events)
    write_csv(folder / "queries.csv", [{"query_id": "q1", "query": "red boot"}, {"query_id": "q2", "query": "clog"}])
    judged = [{"query_id": "q1", "item_id": "s0", "relevance": 1}, {"query_id": "q2", "item_id": "s3", "relevance": 1}]
    write_csv(folder / "qrels.csv", judged)
    good("build", folder / "products.csv.gz", "--id", "sku", "--title", "name", "--interactions", folder / "events.csv",
         "--encoder", "hashing", "--max-seconds", 1, "--out", folder / "shop.genrail")  # fmt: skip
    return folder


def test_search_answers_as_a_table_and_as_json(files):
    assert "boot" in good("search", files / "shop.genrail", "red boot", "-k", 5).output
    answer = json.loads(good("search", files / "shop.genrail", "red boot", "-k", 5, "--json").stdout)
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4, 5]
    assert set(answer["hits"][0]) == {"rank", "item_id", "title", "score", "log_probability", "attributes"}


def test_search_obeys_a_filter(files):
    answer = json.loads(
        good("search", files / "shop.genrail", "boot", "--where", "price < 15 AND in_stock", "--json").stdout
    )
    assert {hit["item_id"] for hit in answer["hits"]} == {"s1", "s2", "s4"}
    assert answer["exhausted"]


def test_recommend_leaves_the_history_out(files):
    answer = json.loads(good("recommend", files / "shop.genrail", "--history", "s1, s6", "-k", 38, "--json").stdout)
    assert not {"s1", "s6"} & {hit["item_id"] for hit in answer["hits"]}


def test_explain_draws_the_rails(files):
    output = good("search", files / "shop.genrail", "boot", "-k", 2, "--explain").output
    assert "step 1: 1 beginning" in output


def test_evaluate_measures_both_tasks(files):
    found = json.loads(
        good("evaluate", files / "shop.genrail", "--interactions", files / "events.csv",
             "--queries", files / "queries.csv", "--qrels", files / "qrels.csv", "--json").stdout
    )  # fmt: skip
    assert {"R@5", "R@10", "R@100", "nDCG@5", "nDCG@10"} <= set(found["search"][0]["metrics"])
    assert [one["queries"] for one in found["next_item"]] == [20, 20]
    assert {one["name"] for one in found["lanes"]["search"]} >= {"native", "BM25", "Dense"}
    assert "Co-occurrence (seen items kept)" in {one["name"] for one in found["lanes"]["next_item"]}


def test_compare_says_what_to_use_and_writes_a_page(files, tmp_path):
    page = tmp_path / "report.html"
    found = good("compare", files / "shop.genrail", "--queries", files / "queries.csv", "--qrels", files / "qrels.csv",
                 "--interactions", files / "events.csv", "--report", page, "--markdown", tmp_path / "r.md",
                 "--json")  # fmt: skip
    values = json.loads(found.stdout)
    assert values["recommendation"]
    assert {"genrail", "native", "BM25", "TF-IDF", "Dense", "Popularity"} <= set(values["methods"])
    assert values["costs"]["BM25"]["index_bytes"] > 0
    assert {"Item-kNN", "Co-occurrence"} <= set(values["next item"]["methods"])
    assert "<html" in page.read_text()
    assert "<html" in (tmp_path / "report-next-item.html").read_text()
    assert "| BM25 |" in (tmp_path / "r.md").read_text()


def test_inspect_shows_the_identifiers(files):
    facts = json.loads(good("inspect", files / "shop.genrail", "--identifiers", "--json").stdout)
    assert facts["whole"] is True
    assert facts["items"] == 40
    assert facts["identifiers"]
    assert "perplexity" in good("inspect", files / "shop.genrail").output


def test_doctor_names_what_is_installed():
    found = json.loads(good("doctor", "--json").stdout)
    assert {row["package"] for row in found["packages"]} >= {"torch", "numba", "polars"}
    assert "cores" in good("doctor").output


def test_items_are_added_and_removed_without_a_rebuild(files, tmp_path):
    engine = tmp_path / "e"
    good("build", files / "products.csv.gz", "--encoder", "hashing", "--max-seconds", 0.3, "--out", engine)
    new = [{"sku": "new", "name": "purple wellington", "price": 5, "in_stock": "true"}]
    good("add", engine, write_csv(tmp_path / "new.csv", new))
    good("remove", engine, "s1", "s2")
    answer = json.loads(good("search", engine, "purple wellington", "-k", 50, "--json").stdout)
    ids = {hit["item_id"] for hit in answer["hits"]}
    assert "new" in ids
    assert not {"s1", "s2"} & ids
    assert len(ids) == 39


def test_items_are_updated_merged_and_rolled_back(files, tmp_path):
    def answer(*words):
        hits = json.loads(good("search", engine, "boot", "-k", 50, "--json", *words).stdout)["hits"]
        return {hit["item_id"] for hit in hits}

    engine = tmp_path / "e"
    good("build", files / "products.csv.gz", "--encoder", "hashing", "--max-seconds", 0.3, "--out", engine)
    good("update", engine, write_csv(tmp_path / "prices.csv", [{"sku": "s3", "price": 900}]))
    assert answer("--where", "price > 800") == {"s3"}
    assert "version 2" in " ".join(good("merge", engine).output.split())
    good("remove", engine, "s3")
    assert answer("--where", "price > 800") == set()
    assert "version 1" in " ".join(good("rollback", engine).output.split())
    assert answer("--where", "price > 800") == {"s3"}
    good("rollback", engine, "--to", 2)
    assert answer("--where", "price > 800") == set()


def test_train_publishes_a_further_version(files, tmp_path):
    engine = tmp_path / "e"
    good("build", files / "products.csv.gz", "--encoder", "hashing", "--max-seconds", 0.3, "--out", engine)
    report = json.loads(
        good("train", engine, "--interactions", files / "events.csv", "--queries", files / "queries.csv",
             "--qrels", files / "qrels.csv", "--max-seconds", 0.5, "--json").stdout
    )  # fmt: skip
    assert report["targets"] > 0
    assert json.loads(good("inspect", engine, "--json").stdout)["version"] == 2


# --- mistakes --------------------------------------------------------------------------------------------------------


def mistake(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        pytest.param("", [], "empty", id="empty file"),
        pytest.param("sku,name\n", [], "row", id="no rows"),
        pytest.param("sku,name\n1,boot\n", ["--id", "code"], "code", id="missing column"),
        pytest.param("sku,name\n1,boot\n,clog\n", [], "row", id="null id"),
        pytest.param("sku,name\n1,boot\n1,clog\n", [], "1", id="duplicate id"),
        pytest.param("sku,name\n1,boot\n", ["--holdout", "some"], "last or none", id="unknown holdout"),
        pytest.param("sku,name\n1,boot\n", ["--encoder", "no/such/encoder"], "encoder", id="unknown encoder"),
    ],
)
def test_a_mistake_in_build_is_one_sentence_and_writes_nothing(tmp_path, content, options, says):
    path, out = mistake(tmp_path, "products.csv", content), tmp_path / "out.genrail"
    result = run("build", path, "--out", out, *options)
    assert result.exit_code == 2
    assert says in result.output
    assert "Traceback" not in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["search", "ENGINE", " "], "give words", id="empty query"),
        pytest.param(["recommend", "ENGINE"], "history", id="empty history"),
        pytest.param(["recommend", "ENGINE", "--history", "nope"], "check the ids", id="unknown history"),
        pytest.param(["search", "ENGINE", "boot", "-k", "0"], "1 to 1000", id="k is 0"),
        pytest.param(["search", "ENGINE", "boot", "--where", "prise < 3"], "price", id="unknown field"),
        pytest.param(["search", "ENGINE", "boot", "--where", "price <"], "expected a value", id="filter syntax"),
        pytest.param(["search", "nowhere", "boot"], "nowhere", id="no such engine"),
        pytest.param(["evaluate", "ENGINE"], "--interactions", id="nothing to evaluate on"),
        pytest.param(["train", "ENGINE", "--queries", "q.csv"], "--qrels", id="queries without qrels"),
        pytest.param(["add", "ENGINE", "nothing.csv"], "nothing.csv", id="no such file"),
        pytest.param(["remove", "ENGINE", "nope"], "nope", id="remove an unknown item"),
        pytest.param(["rollback", "ENGINE"], "no version before", id="roll back the only version"),
        pytest.param(["rollback", "ENGINE", "--to", "9"], "no version 9", id="roll back to an unknown version"),
    ],
)
def test_a_mistake_is_one_sentence_with_exit_code_2(files, words, says):
    result = run(*[str(files / "shop.genrail") if word == "ENGINE" else word for word in words])
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_help_answers_in_a_process_of_its_own():
    environment = {**os.environ, "COLUMNS": "100"}
    for verb in ([], ["build"], ["search"], ["evaluate"], ["demo"]):
        done = subprocess.run(
            [sys.executable, "-m", "genrail", *verb, "--help"],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        assert "Usage" in done.stdout


@pytest.mark.parametrize(
    ("given", "count"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_that_wait_give_way_unless_the_user_says_otherwise(given, count):
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    script = "import os, sys\nfrom genrail.cli.main import run\nsys.argv = ['genrail', '--version']\ntry: run()\n"
    script += "except SystemExit: print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=kept | given)
    assert done.stdout.split()[-1] == count


def test_titles_cannot_steer_the_terminal(tmp_path):
    evil = mistake(tmp_path, "evil.csv", "sku,name\n1,\x1b[31mred boot\u202e\n2,[bold]clog[/bold]\n")
    good("build", evil, "--encoder", "hashing", "--max-seconds", 0.2, "--out", tmp_path / "e")
    output = good("search", tmp_path / "e", "boot").output
    assert "\x1b[31m" not in output
    assert "\u202e" not in output
    assert "[bold]clog[/bold]" in output


# --- accounts, options, the unexpected -------------------------------------------------------------------------------


def flat(result):
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Build an engine whose columns are text, number and tags."""
    folder = tmp_path_factory.mktemp("small")
    rows = [{"sku": f"0{n}", "name": f"boot {n}", "price": f"{n}.5", "zip": f"0{n}234"} for n in range(1, 6)]
    write_csv(folder / "a.csv", [*rows, {"sku": "x,y", "name": "clog", "price": "N/A", "zip": "99999"}])
    good("build", folder / "a.csv", "--encoder", "hashing", "--max-seconds", 0.3, "--out", folder / "e")
    return folder


def test_every_command_that_reads_prints_the_same_account(small, tmp_path):
    engine = tmp_path / "e"
    shutil.copytree(small / "e", engine)
    new = mistake(tmp_path, "new.csv", "sku,name,price,zip\n7,wool hat,5,00700\n8\n,,,\n")
    account = json.loads(good("add", engine, new, "--json").stdout)["account"]
    assert (account["rows_in"], account["indexed"], [row for row, _ in account["refused"]]) == (3, 1, [2, 3])
    changes = mistake(tmp_path, "changes.csv", "sku;zip\n01;007\n9\n")
    found = good("update", engine, changes)
    assert "2 rows in = 1 updated + 1 refused" in flat(found)
    assert "row 2: 1 value where 2 columns are" in flat(found)
    answer = json.loads(good("search", engine, "boot", "--where", "zip = '007'", "--json").stdout)
    assert [hit["attributes"]["zip"] for hit in answer["hits"]] == ["007"]
    wrong = run("add", engine, mistake(tmp_path, "wrong.csv", "sku,name,price\n9,sock,cheap\n"))
    assert wrong.exit_code == 2
    assert 'column "price" holds numbers, and "cheap" in row 1 is none' in flat(wrong)


def test_events_give_an_account_and_strangers_are_refused(small, tmp_path):
    log = mistake(tmp_path, "log.csv", "user,item,rating\nu,1,5\nu,01,5\nu,02,1\nv,02,4\nv,zzz,5\n,01,5\n")
    found = good("build", small / "a.csv", "--interactions", log, "--encoder", "hashing", "--max-seconds", 0.3,
                 "--out", tmp_path / "e")  # fmt: skip
    assert "6 rows in = 2 used + 1 of low rating + 2 of unknown items + 1 refused" in flat(found)
    assert "ids look like 1, zzz" in flat(found)
    strangers = mistake(tmp_path, "strangers.csv", "user,item\n" + "".join(f"u,p{n}\n" for n in range(30)))
    refused = run("build", small / "a.csv", "--interactions", strangers, "--out", tmp_path / "none")
    assert refused.exit_code == 2
    assert "(100%) are of items that the catalogue does not hold" in flat(refused)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("data", "options", "advice"),
    [
        (b"idd,titel\n1,x\n", [], "--id ..."),
        (b"id,words\n1,x\n", [], "--title ..."),
        ("id,title\n1,caf\xe9\n".encode("cp1252"), [], "--encoding (such as cp1252)"),
        (b"id,title\n1,x\n", ["--format", "xml"], '--format "xml"'),
        (b"id,title\n1,x\n", ["--encoding", "nothing"], "--encoding by its Python name"),
        (b"id,title\n1,x\n", ["--min-rating", "low", "--interactions", "a.csv"], "--min-rating"),
    ],
)
def test_advice_names_options(tmp_path, data, options, advice):
    (tmp_path / "a.csv").write_bytes(data)
    result = run("build", tmp_path / "a.csv", "--out", tmp_path / "e", *options)
    assert result.exit_code == 2
    assert advice in flat(result)
    assert not re.search(r"\b(item_id|title|format|encoding)=", flat(result))


def test_a_history_can_name_ids_with_commas(small):
    for given in (["x,y"], ['"x,y", 01'], ['["x,y", "01"]'], ["01", "--history", "x,y"]):
        answer = json.loads(good("recommend", small / "e", "--history", *given, "-k", 3, "--json").stdout)
        assert answer["warnings"] == []
        assert "x,y" not in {hit["item_id"] for hit in answer["hits"]}
    assert run("recommend", small / "e", "--history", "[1").exit_code == 2


def test_what_nobody_expected_is_one_sentence_and_a_file(small, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("all by itself")

    monkeypatch.setattr("genrail.engine.engine.Engine.search_batch", broken)
    result = run("search", small / "e", "boot")
    assert result.exit_code == 1
    assert "did not expect (ZeroDivisionError: all by itself)" in flat(result)
    where = re.search(r"traceback is in (\S+?),", flat(result)).group(1)
    assert "in broken" in open(where).read()
    os.remove(where)
    assert "Traceback" not in result.output


def test_a_stop_while_modules_load_is_quiet():
    done = subprocess.run(
        [sys.executable, "-c", "import sys\nclass Stop:\n def find_spec(self, *_):\n  raise KeyboardInterrupt\n"
         "from genrail.cli.main import run\nsys.meta_path.insert(0, Stop())\nrun()"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "")


def test_a_terminal_that_cannot_show_a_title_stops_nothing(small, tmp_path):
    shop = mistake(tmp_path, "a.csv", "sku,name\n1,boot \u9769\u9774\n2,clog\n")
    good("build", shop, "--encoder", "hashing", "--max-seconds", 0.3, "--out", tmp_path / "e")
    narrow = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    script = "from genrail.cli.main import run; run()"
    for options in (["--json"], []):
        done = subprocess.run(
            [sys.executable, "-c", script, "search", tmp_path / "e", "boot", *options],
            capture_output=True, check=True, env=narrow,
        )  # fmt: skip
        if options:
            assert "boot \u9769\u9774" in {hit["title"] for hit in json.loads(done.stdout)["hits"]}
