"""From raw logits to log-probabilities, NaN and -inf included."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from genrail.errors import LogitsError

__all__ = ["log_softmax"]


def log_softmax(logits: npt.ArrayLike, allowed: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float64]:
    """Turn raw logits into log-probabilities, by the rules of the constraint index.

    Args:
        logits: Shape (..., V). NaN counts as -inf, outside the denominator.
        allowed: Share the probability out among these tokens only, shape (V,) or (..., V).

    Returns:
        float64, shape (..., V); -inf throughout where every logit is -inf.

    Raises:
        LogitsError: A logit is +inf.

    >>> log_softmax([0.0, 0.0, np.nan, -np.inf]).round(3).tolist()
    [-0.693, -0.693, -inf, -inf]
    """
    values = np.asarray(logits, dtype=np.float64)
    if np.isposinf(values).any():
        *row, token = np.argwhere(np.isposinf(values))[0].tolist()
        raise LogitsError(
            f"the logit of token {token} in row {row} is +inf; the model's weights or precision are broken"
        )
    values = np.where(np.isnan(values), -np.inf, values)
    if allowed is not None:
        values = np.where(allowed, values, -np.inf)
    top = values.max(axis=-1, keepdims=True)
    shifted = values - np.where(top > -np.inf, top, 0.0)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return np.where(top > -np.inf, shifted - np.where(top > -np.inf, total, 0.0), -np.inf)
