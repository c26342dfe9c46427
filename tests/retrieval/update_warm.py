"""What the fork server of the crash tests imports and compiles once."""

from tests.retrieval.update_crasher import warm

warm()
