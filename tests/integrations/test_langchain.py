"""An engine as a retriever of LangChain."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("langchain_core", reason='needs the extra: pip install "genrail[langchain]"')

from genrail.integrations.langchain import GenrailRetriever
from tests.integrations.contract import AdapterContract
from tests.shops import engine


class TestLangChain(AdapterContract):
    def make(self, retriever, k=10, where=None, content=None):
        return GenrailRetriever(engine=retriever, k=k, where=where, content=content)

    def ask(self, adapter, words):
        return adapter.invoke(words)

    async def ask_async(self, adapter, words):
        return await adapter.ainvoke(words)

    def plain(self, found):
        return found.id, found.page_content, found.metadata["score"], found.metadata


def ids(documents):
    return [document.id for document in documents]


def test_a_call_says_how_many_with_what_filter_and_past():
    retriever = GenrailRetriever(engine=engine(), where="price < 40")
    found = retriever.invoke("boot", k=3, where="in_stock", history=["s1"])
    assert ids(found) == engine().search("boot", k=3, where="price < 40 AND in_stock", history=["s1"]).item_ids
    assert ids(asyncio.run(retriever.ainvoke("boot", k=3, where="in_stock", history=["s1"]))) == ids(found)


def test_an_or_in_one_filter_does_not_open_the_other():
    retriever = GenrailRetriever(engine=engine(), where="price < 12 OR price > 48")
    found = retriever.invoke("boot", k=40, where="in_stock OR colour = 'red'")
    wanted = "(price < 12 OR price > 48) AND (in_stock OR colour = 'red')"
    assert set(ids(found)) == set(engine().search("boot", k=40, where=wanted).item_ids)


def test_batches_and_chains():
    retriever = GenrailRetriever(engine=engine(), k=4)
    words = ["blue boot", "clog"]
    assert [ids(found) for found in retriever.batch(words)] == [engine().search(one, k=4).item_ids for one in words]
    assert [ids(found) for found in asyncio.run(retriever.abatch(words))] == [
        ids(found) for found in retriever.batch(words)
    ]
    assert (retriever | ids).invoke("clog") == engine().search("clog", k=4).item_ids


def test_callbacks_see_the_search():
    from langchain_core.callbacks import BaseCallbackHandler

    class Watcher(BaseCallbackHandler):
        seen = ()

        def on_retriever_end(self, documents, **_):
            self.seen = ids(documents)

    watcher = Watcher()
    found = GenrailRetriever(engine=engine(), k=2).invoke("boot", config={"callbacks": [watcher]})
    assert watcher.seen == ids(found)
