"""Random numbers that depend on the seed and the place of use alone, never on history.

A generator is made afresh for each purpose and step, so a run that resumes at step `n` needs no
stored state, and whatever draws ahead in the background cannot disturb anyone.
"""

import numpy as np

from plasticity.arrays import Array, array_module

# What a key's first number stands for.
WEIGHTS, ORDER, AUGMENT, DRAWS, PROBE, RECORD, VIEWS, SUBSET, MOTIONS, PLASTIC = range(10)


def generator(seed: int, *key: int) -> np.random.Generator:
    """A generator for the purpose `key`, such as `(AUGMENT, step)` or `(DRAWS, step, layer)`."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def uniform(key: int, place: Array) -> Array:
    """A random number in [0, 1) for every place, float64: a function of key and place alone.

    For random numbers too many to be kept: they can be had again, in any order, on any device. It
    is output number `place` of SplitMix64 (Steele, Lea & Flood 2014) with the seed `key`.

    Args:
        key: below 2**64; place: uint64, any shape, NumPy or CuPy.
    """
    x = (place + 1) * 0x9E3779B97F4A7C15 + key
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return ((x ^ (x >> 31)) >> 11).astype(float) * 2.0**-53


def normal(key: int, place: Array) -> Array:
    """A standard normal number for every place, float64 (Box & Muller 1958): see `uniform`.

    Args:
        place: uint64, an even number of consecutive places.
    """
    xp = array_module(place)
    radius, angle = uniform(key, place).reshape(2, -1)
    radius, angle = xp.sqrt(-2 * xp.log(1 - radius)), 2 * np.pi * angle
    return xp.concatenate([radius * xp.cos(angle), radius * xp.sin(angle)]).reshape(place.shape)
