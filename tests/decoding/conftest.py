from __future__ import annotations

import pytest

from tests.contracts.indexes import INDEXES


@pytest.fixture(params=sorted(INDEXES), scope="module")
def make_index(request):
    return INDEXES[request.param]
