"""Clips that need no download: ten motions of things over moving backgrounds.

A clip is a function of its split and its number. What moves is one of the images that come with the
package, in a colour; its label is how it moves. At any one time the place, angle, size and slant of
things are spread alike over all labels, and so is the background, which drifts by itself: no single
frame tells the label.
"""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from plasticity import seeds
from plasticity.data.clips import ClipSet
from plasticity.errors import UserError

MOTIONS = (
    "left", "right", "up", "down", "clockwise", "anticlockwise", "nearer", "farther", "bounce",
    "shear",
)  # fmt: skip
COUNTS = {"train": 4000, "test": 1000}
LENGTH = 120  # frames of a clip
SIDE = 72
VERSION = 1  # of the function: other clips, another number
SMALLEST, LARGEST, SLANT = 0.45, 1.0, 0.6  # of a thing beside the frame, and its shear
PERIODS = (12.0, 24.0)  # frames until a motion comes back to where it was
# Mean and deviation of every colour over some hundred clips.
MEAN, STD = (0.194, 0.194, 0.194), (0.158, 0.158, 0.158)


@cache
def _things() -> dict[str, np.ndarray]:
    """The images that move, uint8 `(n, 28, 28)`, by split."""
    with np.load(Path(__file__).with_name("sample.npz")) as stored:
        return {split: stored[f"{split}_images"] for split in COUNTS}


def motion(label: int, rng: np.random.Generator, times: np.ndarray) -> dict[str, np.ndarray]:
    """Where a thing is at each time: `x`, `y` and `angle` in turns, `size`, `slant`.

    Each starts at random and stays there, but for the one that the label moves, at a speed drawn
    for the clip. At any one time x, y and angle are uniform, size and slant uniform between their
    limits, whatever the label.

    Args:
        times: in frames `(T,)`.
    """
    phase = rng.random(5)
    turns = times / rng.uniform(*PERIODS)
    moved = np.tile(phase, (len(times), 1))
    axis, sign = {
        "left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1), "clockwise": (2, 1),
        "anticlockwise": (2, -1), "nearer": (3, 1), "farther": (3, -1), "bounce": (1, 0),
        "shear": (4, 0),
    }[MOTIONS[label]]  # fmt: skip
    if sign:
        moved[:, axis] = (phase[axis] + sign * turns) % 1
    else:  # there and back
        moved[:, axis] = np.abs((2 * (phase[axis] + turns)) % 2 - 1)
    x, y, angle, size, slant = moved.T
    return {
        "x": x,
        "y": y,
        "angle": angle,
        "size": SMALLEST + (LARGEST - SMALLEST) * size,
        "slant": SLANT * (2 * slant - 1),
    }


def clip(split: str, index: int, start: int, count: int, side: int, every: int = 1) -> np.ndarray:
    """Frames of a clip from `start` on, one of so many, uint8 `(count, side, side, 3)`."""
    rng = seeds.generator(VERSION, seeds.MOTIONS, int(split == "test"), index)
    things = _things()[split]
    thing, texture = (things[i] for i in rng.integers(0, len(things), 2))
    colours = rng.uniform(0.35, 1, (2, 3))
    drift, origin = rng.uniform(-2, 2, 2) * side / SIDE, rng.uniform(0, side, 2)
    times = every * np.arange(start, start + count)
    state = motion(index % len(MOTIONS), rng, times)
    background = _background(texture, side)
    frames = np.empty((count, side, side, 3), np.uint8)
    for t, time in enumerate(times):
        behind = _rolled(background, origin + drift * time)
        front, mask = (
            _placed(image, side, **{name: values[t] for name, values in state.items()})
            for image in (thing, np.where(thing > 0, 255, 0).astype(np.uint8))
        )
        share = mask[..., None] / 255
        frames[t] = (1 - share) * behind[..., None] * colours[0] + share * (
            (64 + 0.75 * front)[..., None] * colours[1]
        )
    return frames


def _background(texture: np.ndarray, side: int) -> np.ndarray:
    """A dim texture that goes on at its edges, float `(side, side)`."""
    half = Image.fromarray(texture).resize((side // 2 + side % 2,) * 2, Image.Resampling.BICUBIC)
    quarter = np.asarray(half, float)
    whole = np.block([[quarter, quarter[:, ::-1]], [quarter[::-1], quarter[::-1, ::-1]]])
    return 30 + 0.4 * whole[:side, :side]


def _rolled(image: np.ndarray, by: np.ndarray) -> np.ndarray:
    """The image moved by parts of pixels, round its edges, bilinear."""
    whole = np.floor(by).astype(int)
    part = by - whole
    for axis in (0, 1):
        image = (1 - part[axis]) * np.roll(image, whole[axis], axis) + part[axis] * np.roll(
            image, whole[axis] + 1, axis
        )
    return image


def _placed(
    image: np.ndarray, side: int, x: float, y: float, angle: float, size: float, slant: float
) -> np.ndarray:
    """A thing turned, slanted and scaled, at its place; what leaves at one edge enters at the
    other. uint8 `(side, side)`."""
    (h, w), turn = image.shape, 2 * np.pi * angle
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    forward = turned @ np.array([[1, slant], [0, 1]]) * size * side / max(h, w) * 0.7
    back = np.linalg.inv(forward)
    place = np.array([x, y]) * side
    whole = np.floor(place).astype(int)
    centre = side / 2 + (place - whole)
    offset = np.array([w / 2, h / 2]) - back @ centre
    data = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    made = Image.fromarray(image).transform(
        (side, side), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
    )
    return np.roll(np.asarray(made), (whole[1] - side // 2, whole[0] - side // 2), (0, 1))


def motions(split: str, side: int = SIDE, every: int = 1) -> ClipSet:
    """The made clips of a split, `train` or `test`; each in its turn has the next of the motions.

    Raises:
        UserError: another split.
    """
    if split not in COUNTS:
        raise UserError(f"the made clips have the splits {' and '.join(COUNTS)}, not '{split}'")
    count = COUNTS[split]
    return ClipSet(
        name="motions",
        split=split,
        read=lambda index, start, frames: clip(split, index, start, frames, side, every),
        lengths=np.full(count, LENGTH // every),
        side=side,
        labels=np.arange(count) % len(MOTIONS),
        classes=MOTIONS,
        mean=MEAN,
        std=STD,
        place=Path(__file__).with_name("sample.npz"),
    )
