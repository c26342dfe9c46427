"""LangChain's own tests of retrievers; `make test-adapters` installs them, as they bring plugins of pytest."""

from __future__ import annotations

import pytest

standard = pytest.importorskip("langchain_tests.integration_tests", reason="langchain-tests: make test-adapters")

from genrail.integrations.langchain import GenrailRetriever
from tests.shops import engine


class TestStandard(standard.RetrieversIntegrationTests):
    @property
    def retriever_constructor(self):
        return GenrailRetriever

    @property
    def retriever_constructor_params(self):
        return {"engine": engine()}

    @property
    def retriever_query_example(self):
        return "blue boot"
