"""VGG-6, the vision encoder: table 2 of Illing, Ventura, Bellec & Gerstner, NeurIPS 2021."""

from plasticity.errors import UserError
from plasticity.network import Conv, Network

# (neurons at full width, side of the MaxPool)
LAYERS = ((128, 1), (256, 2), (256, 1), (512, 2), (1024, 2), (1024, 2))

# Table 3: layers of each module.
SPLITS = (
    ("2", (3, 3)),
    ("3", (2, 2, 2)),
    ("4-lower", (3, 1, 1, 1)),
    ("4-upper", (1, 1, 1, 3)),
    ("6", (1, 1, 1, 1, 1, 1)),
)


def build(width: float = 1.0, channels: int = 1) -> Network:
    """Six 3x3 convolutions, padding 1, ReLU.

    Args:
        width: multiplies the number of neurons of every layer (at least one stays).
        channels: of its input, 1 of grey images (as published), 3 of those in colour.

    Raises:
        UserError: a width that is not positive.
    """
    if not width > 0:
        raise UserError(f"--width must be positive, got {width}")
    layers, inputs = [], channels
    for number, (neurons, pool) in enumerate(LAYERS, 1):
        outputs = max(1, round(neurons * width))
        layers.append(Conv(f"conv{number}", inputs, outputs, pool=pool))
        inputs = outputs
    citation = "Illing, Ventura, Bellec & Gerstner, NeurIPS 2021, tables 2 and 3"
    return Network("vgg6", tuple(layers), citation, SPLITS)
