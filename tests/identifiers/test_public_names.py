"""The room's public names exist, and none of them brings torch, faiss or matplotlib along."""

import subprocess
import sys

import pytest

from genrail import identifiers


def test_every_public_name_is_there():
    for name in identifiers.__all__:
        assert getattr(identifiers, name).__name__ == name
    assert dir(identifiers) == sorted(identifiers.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Titel'"):
        getattr(identifiers, "Titel")  # noqa: B009


def test_using_the_room_without_training_imports_nothing_heavy():
    code = (
        "import sys, numpy as np\n"
        "from genrail import identifiers\n"
        "for name in identifiers.__all__: getattr(identifiers, name)\n"
        "from genrail.identifiers.quality import measure\n"
        "vectors = np.eye(4, dtype=np.float32)\n"
        "measure(identifiers.SemanticIds.fit(vectors, 2, 2).assign(vectors), vectors=vectors)\n"
        "print([name for name in ('torch', 'faiss', 'matplotlib', 'transformers', 'scipy') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
