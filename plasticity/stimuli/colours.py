"""Colours of film frames varied at random, as the published video code does before learning."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

GREY = 0.5  # the chance that a frame becomes one of its channels
SPREAD = 0.5  # of brightness, contrast and saturation, about 1
HUE = 0.25  # at most, in turns of the circle of hues
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclass(frozen=True)
class Variation:
    """How the colours of frames vary, each frame on its own.

    Attributes:
        channel: which one becomes the grey of all three, -1 for none, int `(..., T)`.
        factors: of brightness, contrast and saturation `(..., T, 3)`; hue: in turns `(..., T)`.
        order: in which these three and the hue (3) are changed, int `(..., T, 4)`.
    """

    channel: np.ndarray
    factors: np.ndarray
    hue: np.ndarray
    order: np.ndarray

    @classmethod
    def drawn(cls, shape: tuple[int, ...], rng: np.random.Generator) -> "Variation":
        """One for every frame of an array of this shape."""
        grey, channel = rng.random(shape) < GREY, rng.integers(0, 3, shape)
        return cls(
            np.where(grey, channel, -1),
            rng.uniform(1 - SPREAD, 1 + SPREAD, (*shape, 3)),
            rng.uniform(-HUE, HUE, shape),
            rng.permuted(np.broadcast_to(np.arange(4), (*shape, 4)), axis=-1),
        )

    def __getitem__(self, index: object) -> "Variation":
        return Variation(*(values[index] for values in vars(self).values()))

    def of(self, frame: np.ndarray) -> np.ndarray:
        """One frame, uint8 `(h, w, 3)`, with its colours changed, in Pillow's arithmetic."""
        if self.channel >= 0:
            frame = np.repeat(frame[..., self.channel, None], 3, axis=-1)
        image = Image.fromarray(np.ascontiguousarray(frame))
        for change in self.order:
            if change < 3:
                image = ENHANCERS[change](image).enhance(float(self.factors[change]))
            elif self.channel < 0:  # grey has no hue
                image = turned(image, float(self.hue))
        return np.asarray(image)


def turned(image: Image.Image, hue: float) -> Image.Image:
    """An image whose hues are turned by a part of their circle, in steps of 1/256."""
    values = np.array(image.convert("HSV"))
    values[..., 0] += np.uint8(round(256 * hue) % 256)
    return Image.frombytes("HSV", image.size, values.tobytes()).convert("RGB")
