"""Reproducible randomness: seeded generators for paths, and hashed noise addressed by key.

A path is drawn once from a generator seeded by (seed, labels). Everything that must be reached directly, such as the
size of one quote at one instant, is a hash of its key, so that asking for less of a chain changes no number in it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Keys = NDArray[np.uint64]

_MASK = (1 << 64) - 1


def number_of(*labels: object) -> int:
    """A 64-bit number that depends on all labels and nothing else."""
    text = "\x1f".join(str(label) for label in labels)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def generator(*labels: object) -> np.random.Generator:
    """A generator of its own for each combination of labels."""
    return np.random.Generator(np.random.PCG64(number_of(*labels)))


@lru_cache(maxsize=32)
def _salts(count: int, dimensions: int) -> Keys:
    salts = np.array([(row + 1) * 0x9E3779B97F4A7C15 & _MASK for row in range(count)], dtype=np.uint64)
    return salts.reshape((count,) + (1,) * dimensions)


def uniforms(keys: Keys, count: int) -> Floats:
    """`count` independent numbers in (0, 1) per key, along a new first axis."""
    mixed = keys ^ _salts(count, keys.ndim)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return np.asarray(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53, dtype=np.float64)


def bells(shares: Floats) -> Floats:
    """Numbers in (0, 1) spread out to a logistic law of mean 0 and standard deviation 1."""
    return np.asarray(np.log(shares / (1.0 - shares)) * 0.5513288954217921, dtype=np.float64)


def uniform(*labels: object) -> float:
    """One number in (0, 1) that depends on all labels and nothing else."""
    return (number_of(*labels) + 0.5) / 2.0**64
