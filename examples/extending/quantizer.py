"""A quantizer from outside: codes are the places of a vector's largest numbers (winner take all).

Importing this file registers the kind ``winners``; a package would announce it by an entry point of the group
``genrail.quantizers`` instead. Then every finder with Semantic IDs can use it: ``Engine.build(catalog, "native",
identifiers="winners")``, or ``genrail build --recipe tiger --identifiers winners``.

Source: Yagnik et al. 2011, The Power of Comparative Reasoning.
"""

from pathlib import Path

import numpy as np

from genrail.identifiers import saved
from genrail.identifiers.quantizer import NAME, checked_vectors, register_quantizer


@register_quantizer
class Winners:
    kind = "winners"

    def __init__(self, levels=3, codes=16, seed=0):
        self.levels, self.codes, self.seed, self.mean = levels, codes, seed, None

    @property
    def dimensions(self):
        return len(self.mean)

    @property
    def fingerprint(self):
        return saved.fingerprint(self._settings(), {"mean": self.mean})

    def fit(self, vectors):
        self.mean = checked_vectors(vectors).mean(axis=0)
        return self

    def assign(self, vectors):
        centred = checked_vectors(vectors, self.dimensions) - self.mean
        return np.argsort(-centred, axis=1, kind="stable")[:, : self.levels].astype(np.int64) % self.codes

    def decode(self, codes):
        vectors = np.repeat(self.mean[None], len(codes), axis=0)
        for column in np.asarray(codes).T:
            vectors[np.arange(len(codes)), column] += 1.0
        return vectors

    def save(self, folder):
        saved.write(Path(folder), NAME, self.kind, self._settings(), {"mean": self.mean})

    @classmethod
    def load(cls, folder):
        found = saved.read(Path(folder), NAME, cls.kind)
        made = cls(**found.details)
        made.mean = found.arrays["mean"]
        return made

    def _settings(self):
        return {"levels": self.levels, "codes": self.codes, "seed": self.seed}
