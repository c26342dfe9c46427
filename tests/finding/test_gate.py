import numpy as np
import pytest

from genrail.errors import ClosedWorldError
from genrail.finding.gate import Gate

ALLOWED = np.array([True, False, True])


def test_allowed_rows_pass_and_are_counted():
    gate = Gate()
    gate.check(np.array([2, 0]), ALLOWED)
    assert (gate.checked, gate.violations) == (2, 0)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([0, 1], id="not allowed"),
        pytest.param([3], id="beyond the catalogue"),
        pytest.param([-1], id="before the catalogue"),
        pytest.param([0, 0], id="twice"),
    ],
)
def test_a_violation_is_refused_and_counted(rows):
    gate = Gate()
    with pytest.raises(ClosedWorldError, match="refused"):
        gate.check(np.array(rows), ALLOWED)
    assert gate.violations == 1
