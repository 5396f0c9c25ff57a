"""VGG-5, the video encoder: table 5 of Illing, Ventura, Bellec & Gerstner, NeurIPS 2021."""

from plasticity.errors import UserError
from plasticity.network import Network, Norm, NormConv, Pool

POOL = Pool((1, 3, 3), (1, 2, 2))  # frame by frame; windows overlap

# Neurons at full width, kernel, stride and padding (time, y, x), and the pool.
BLOCKS = (
    (96, (1, 7, 7), (1, 2, 2), 0, POOL),
    (256, (1, 5, 5), (1, 2, 2), (0, 1, 1), POOL),
    (512, (1, 3, 3), 1, (0, 1, 1), 1),
    (512, (3, 3, 3), (3, 1, 1), (0, 1, 1), 1),
    (512, (3, 3, 3), (3, 1, 1), (0, 1, 1), POOL),
)


def build(
    width: float = 1.0,
    channels: int = 3,
    order: str = "conv relu norm pool",
    statistics: str = "batch",
) -> Network:
    """Five blocks of convolution, ReLU, batch normalisation and MaxPool, for clips in colour.

    | block | kernel | neurons | stride | padding | pool | map of 54 x 128 x 128 |
    |---|---|---|---|---|---|---|
    | 1 | 1x7x7 | 96 | 1, 2, 2 | 0 | 1x3x3, stride 1, 2, 2 | 54 x 30 x 30 |
    | 2 | 1x5x5 | 256 | 1, 2, 2 | 0, 1, 1 | the same | 54 x 6 x 6 |
    | 3 | 1x3x3 | 512 | 1 | 0, 1, 1 | | 54 x 6 x 6 |
    | 4 | 3x3x3 | 512 | 3, 1, 1 | 0, 1, 1 | | 18 x 6 x 6 |
    | 5 | 3x3x3 | 512 | 3, 1, 1 | 0, 1, 1 | the same | 6 x 2 x 2 |

    Weights start normal with variance 2 / (neurons x kernel), biases at 0, as published. Frames of
    72 pixels and clips of 36 frames are the least from which block 5 has three steps to predict.

    Args:
        width: multiplies the number of neurons of every layer (at least one stays).
        channels: of a frame.
        order: `conv relu norm pool` as the published code has it, or `conv norm relu pool` as the
            table prints it; statistics: see `layers.Norm`.

    Raises:
        UserError: a width that is not positive.
    """
    if not width > 0:
        raise UserError(f"--width must be positive, got {width}")
    layers, inputs, how = [], channels, {"norm": Norm(statistics=statistics), "order": order}
    for number, (neurons, kernel, stride, padding, pool) in enumerate(BLOCKS, 1):
        outputs = max(1, round(neurons * width))
        shape = {"kernel": kernel, "stride": stride, "padding": padding, "pool": pool}
        layers.append(NormConv(f"conv{number}", inputs, outputs, start="fan out", **shape, **how))
        inputs = outputs
    citation = "Illing, Ventura, Bellec & Gerstner, NeurIPS 2021, table 5"
    return Network("vgg5_video", tuple(layers), citation, (("5", (1,) * 5),))
