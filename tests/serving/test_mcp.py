"""Tools for agents: they find real items, stay within their filter, and change nothing."""

from __future__ import annotations

import asyncio
import sys

import pytest

pytest.importorskip("mcp", reason='needs the extra: pip install "genrail[mcp]"')

from mcp import Client, StdioServerParameters

from genrail.errors import FilterError
from genrail.serving.mcp import MOST_CHARACTERS, create_mcp_server
from tests.serving.clients import own_engine
from tests.shops import engine


def call(server, name, **arguments):
    """Call one tool through a client of the library."""

    async def talk():
        async with Client(server) as client:
            return await client.call_tool(name, arguments)

    return asyncio.run(talk())


def page(server, name, **arguments):
    answer = call(server, name, **arguments)
    assert not answer.is_error, answer.content
    return answer.structured_content


@pytest.fixture(scope="module")
def server():
    return create_mcp_server(engine())


def test_there_are_four_tools_and_none_changes_anything(server):
    async def listed():
        async with Client(server) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(listed())}
    assert set(tools) == {"search_catalog", "recommend_items", "get_item", "explain_result"}
    for tool in tools.values():
        assert tool.annotations.read_only_hint and not tool.annotations.open_world_hint
        assert tool.description and tool.output_schema


def test_a_search_gives_what_the_engine_gives(server):
    catalog = engine().catalog
    words = catalog.titles[3]
    found = page(server, "search_catalog", query=words, k=5)
    assert [hit["id"] for hit in found["hits"]] == engine().search(words, k=5).item_ids
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4, 5]


def test_recommendations_leave_out_what_was_taken(server):
    past = engine().catalog.item_ids[:2]
    found = page(server, "recommend_items", history=past, k=5)
    assert [hit["id"] for hit in found["hits"]] == engine().recommend(past, k=5).item_ids
    assert not {hit["id"] for hit in found["hits"]} & set(past)


def test_an_item_is_looked_up_and_an_unknown_one_is_told(server):
    item_id = engine().catalog.item_ids[4]
    assert page(server, "get_item", item_id=item_id)["title"] == engine().catalog.titles[4]
    answer = call(server, "get_item", item_id="nobody-knows")
    assert answer.is_error and "nobody-knows" in answer.content[0].text


def test_an_explanation_tells_the_fate_of_an_item(server):
    words = engine().catalog.titles[3]
    best = engine().search(words, k=1)[0].item_id
    found = page(server, "explain_result", item_id=best, query=words)
    assert found["rank"] == 1 and found["steps"] and found["story"]


def test_an_item_outside_the_filter_of_a_search_is_told_to_be_so(server):
    item_id = engine().catalog.item_ids[30]
    found = page(server, "explain_result", item_id=item_id, query="shoe", where="price < 20")
    assert found["rank"] is None and found["story"]


@pytest.mark.parametrize(
    "arguments", [{"query": "boot", "k": 0}, {"query": "boot", "k": 51}, {"query": "x" * 2049}, {"query": " "}]
)
def test_questions_out_of_range_are_refused(server, arguments):
    assert call(server, "search_catalog", **arguments).is_error


def test_a_filter_that_cannot_be_read_is_told(server):
    answer = call(server, "search_catalog", query="boot", where="colour_of_the_sole = 1")
    assert answer.is_error and "colour_of_the_sole" in answer.content[0].text


def test_a_bound_filter_holds_for_every_tool():
    served = own_engine()
    allowed = set(served.search("shoe", k=1000, where="price < 20").item_ids)
    assert 0 < len(allowed) < len(served)
    bound = create_mcp_server(served, where="price < 20")
    assert {hit["id"] for hit in page(bound, "search_catalog", query="shoe", k=50)["hits"]} <= allowed
    outside = next(item for item in served.catalog.item_ids if item not in allowed)
    assert call(bound, "get_item", item_id=outside).is_error
    assert page(bound, "explain_result", item_id=outside, query="shoe")["rank"] is None
    with pytest.raises(FilterError):
        create_mcp_server(served, where="colour_of_the_sole = 1")


def test_long_titles_are_cut_and_control_characters_taken_out():
    served = own_engine()
    columns = served.catalog.columns
    served.add([{columns.item_id: "long", columns.title: "a\x1b[31m\n" + "b" * 5000}])
    title = page(create_mcp_server(served), "get_item", item_id="long")["title"]
    assert len(title) == MOST_CHARACTERS and title.isprintable()


def test_the_command_talks_over_standard_input_and_output(tmp_path):
    engine().save(tmp_path / "shop.genrail")
    program = "from genrail.cli.main import run; run()"
    server = StdioServerParameters(command=sys.executable, args=["-c", program, "mcp", str(tmp_path / "shop.genrail")])
    item_id = engine().catalog.item_ids[0]
    assert page(server, "get_item", item_id=item_id)["id"] == item_id


ABUSE = {
    "a filter of many patterns": ("search_catalog", {"query": "b", "where": " OR ".join(["name ILIKE '%b'"] * 999)}),
    "a filter that is nested without end": ("search_catalog", {"query": "boot", "where": "(" * 10_000}),
    "a filter that names nothing": ("search_catalog", {"query": "boot", "where": "nothing = 1"}),
    "a filter that joins another": ("search_catalog", {"query": "boot", "where": "colour = 'red') OR (price = 1"}),
    "no words": ("search_catalog", {"query": ""}),
    "words without end": ("search_catalog", {"query": "b" * 100_000}),
    "hits without end": ("search_catalog", {"query": "boot", "k": 10**9}),
    "fewer hits than none": ("search_catalog", {"query": "boot", "k": -1}),
    "a number for words": ("search_catalog", {"query": {"a": 1}}),
    "a past of strangers": ("recommend_items", {"history": ["nobody"] * 1000}),
    "a past without end": ("recommend_items", {"history": ["s1"] * 100_000}),
    "an id without end": ("recommend_items", {"history": ["s" * 10_000_000]}),
    "an item that is a path": ("get_item", {"item_id": "../../etc/passwd"}),
    "an explanation of nothing": ("explain_result", {"item_id": "nobody"}),
    "an unknown field": ("get_item", {"item": "s1"}),
    "an unknown tool": ("remove_items", {"ids": ["s1"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", ABUSE)
def test_abuse_is_an_error_and_the_tools_live_on(server, name):
    tool, arguments = ABUSE[name]
    try:
        answer = call(server, tool, **arguments)
        assert answer.is_error and "Traceback" not in answer.content[0].text
    except Exception as error:  # what the protocol itself refuses, the library raises at the client
        assert "Unknown tool" in str(error) or type(error).__module__.startswith(("mcp", "builtins")), error
    assert page(server, "search_catalog", query="boot", k=1)["hits"]
    assert len(engine()) == 40
