"""Torch's own training step on a card, in every way that makes it faster, beside ours."""

from collections.abc import Callable
from functools import partial

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
        made = partial(step_of, way, rule, width, batch, device)
        _told(way, made, wait, repeat, f"{batch} images", ours)


def report_sound(batch: int, width: float, repeat: int, device: str = "cuda", **how: int) -> None:
    """Print utterances/s of CLAPP-s with BPTT on the audio network, in float32 and in TF32.

    Args:
        how: other options of the run whose batch it takes.
    """
    import torch
    import torch_sound

    from plasticity.runs import run
    from plasticity.runs.options import RunOptions

    options = RunOptions(rule="clapp_s", width=width, batch=batch, device="cpu", **gpu.SOUND, **how)
    state = run.begin(options)
    made = state.batch(0)
    x, events = (
        state.stimulus.inputs(made, np.dtype("f4")),
        torch_sound.events(made.draws, state.layouts),
    )
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    print(f"torch {torch.__version__}, sound, clapp_s, batch {batch}, width {width:g}:")

    def step_in(tf32: bool) -> Callable[[], None]:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        peer = torch_sound.Peer(width, device)
        given = peer.given(x, events)
        return lambda: peer.step(*given)

    for name, tf32 in (("float32", False), ("TF32", True)):
        _told(name, partial(step_in, tf32), wait, repeat, f"{batch} utterances")


def _told(
    way: str,
    made: Callable[[], Callable[[], None]],
    wait: Callable[[], None],
    repeat: int,
    examples: str,
    ours: float = 0,
) -> None:
    """Print a peer's pace, or why it failed: the others are still worth their time."""
    count, _, what = examples.partition(" ")
    try:
        found = gpu.pace(made(), wait, repeat)
    except Exception as error:
        print(f"  {way:28} failed: {type(error).__name__}: {str(error)[:200]}", flush=True)
        return
    ratio = f"   {found.whole / ours:5.2f} times our time" if ours else ""
    rate = f"{int(count) / found.whole:8.1f} {what}/s"
    print(f"  {way:28} {found.whole * 1e3:8.2f} ms {rate}{ratio}", flush=True)
