"""Random numbers that depend on the seed and the place of use alone, never on history.

A generator is made afresh for each purpose and step, so a run that resumes at step `n` needs no
stored state, and whatever draws ahead in the background cannot disturb anyone.
"""

import numpy as np

# What a key's first number stands for.
WEIGHTS, ORDER, AUGMENT, DRAWS, PROBE, RECORD, VIEWS = range(7)


def generator(seed: int, *key: int) -> np.random.Generator:
    """A generator for the purpose `key`, such as `(AUGMENT, step)` or `(DRAWS, step, layer)`."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
