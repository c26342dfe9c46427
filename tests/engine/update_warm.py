"""What the fork server of the crash tests imports and compiles once."""

from tests.engine.update_crasher import warm

warm()
