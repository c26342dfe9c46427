"""What the property tests of decoding draw from: catalogues, filters, and models with broken logits."""

from __future__ import annotations

import warnings

import numpy as np
from hypothesis import strategies as st

from genrail.models.tiny_lm import NoiseModel, UniformModel
from genrail.rng import generator

VOCAB = 6
END = 0


@st.composite
def catalogs(draw):
    """Fixed or ragged identifiers, equal ones included; ragged ones end with END, so one may begin another."""
    n = draw(st.integers(1, 25))
    if draw(st.booleans()):
        length = draw(st.integers(1, 4))
        token = st.integers(0, VOCAB - 1)
        return draw(st.lists(st.lists(token, min_size=length, max_size=length), min_size=n, max_size=n))
    bodies = st.lists(st.integers(1, VOCAB - 1), min_size=0, max_size=5)
    return [[*body, END] for body in draw(st.lists(bodies, min_size=n, max_size=n))]


class BrokenModel(NoiseModel):
    """Noise with NaN and -inf sprinkled over it; `level` 1 leaves nothing else."""

    def __init__(self, vocab_size, seed, level):
        super().__init__(vocab_size, seed)
        self.level = level

    def _logits(self, state):
        logits = super()._logits(state)
        for place, row in enumerate(state.rows):
            rng = generator(7, "broken", *row)
            hit = rng.random(self.vocab_size) < self.level
            logits[place, hit] = rng.choice([np.nan, -np.inf], size=int(hit.sum()))
        return logits


models = st.one_of(
    st.builds(NoiseModel, st.just(VOCAB), seed=st.integers(0, 50), sharpness=st.sampled_from([0.1, 2.0, 20.0])),
    st.just(UniformModel(VOCAB + 3)),
    st.builds(BrokenModel, st.just(VOCAB), seed=st.integers(0, 50), level=st.sampled_from([0.3, 1.0])),
)
masks = st.lists(st.booleans(), min_size=25, max_size=25)


def quietly(search, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an index may warn once about NaN logits
        return search(*args, **kwargs)
