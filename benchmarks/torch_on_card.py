"""Torch's own training step on a card, in every way that makes it faster, beside ours."""

from collections.abc import Callable

import gpu
import numpy as np

# Name -> peer, TF32, bfloat16, compiled with CUDA graphs; the quick ones to build first.
WAYS = {
    "as published, TF32": ("torch_published", True, False, False),
    "at its best, float32": ("torch_best", False, False, False),
    "at its best, TF32": ("torch_best", True, False, False),
    "at its best, bfloat16": ("torch_best", True, True, False),
    "compiled, graphs, TF32": ("torch_best", True, False, True),
    "compiled, graphs, bfloat16": ("torch_best", True, True, True),
    "compiled, graphs, float32": ("torch_best", False, False, True),
}


def step_of(way: str, rule: str, width: float, batch: int, device: str) -> Callable[[], None]:
    """A training step of one of `WAYS`."""
    from importlib import import_module

    import torch

    module, tf32, low, compiled = WAYS[way]
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    images = np.random.default_rng(0).standard_normal((batch, 64, 64)).astype(np.float32)
    with torch.device(device):
        dtype = torch.bfloat16 if low else torch.float32
        peer = import_module(module).Peer(rule, width, dtype=dtype)
    if compiled:
        peer.compile(mode="reduce-overhead")

    def step() -> None:
        with torch.device(device):  # what a step creates lies on the card too
            peer.step(images)

    return step


def report(
    rule: str, batch: int, width: float, repeat: int, ours: float = 0, device: str = "cuda"
) -> None:
    """Print images/s of each of `WAYS`, as it is known; one that fails is named, with why.

    Args:
        ours: seconds of our step, to compare with; 0 prints no comparison.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        print("torch sees no card")
        return
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    print(f"torch {torch.__version__}, {rule}, batch {batch}, width {width:g}:")
    for way in WAYS:
        try:
            found = gpu.pace(step_of(way, rule, width, batch, device), wait, repeat)
        except Exception as error:  # the others are still worth their time
            print(f"  {way:28} failed: {type(error).__name__}: {str(error)[:200]}", flush=True)
            continue
        ratio = f"   {found.whole / ours:5.2f} times our time" if ours else ""
        print(
            f"  {way:28} {found.whole * 1e3:8.2f} ms {batch / found.whole:8.1f} images/s{ratio}",
            flush=True,
        )
