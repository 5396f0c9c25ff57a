"""ResNet-50 as in Loewe, O'Connor & Veeling, NeurIPS 2019: the second encoder of table 4."""

from plasticity.errors import UserError
from plasticity.network import Block, Conv, Network

# (blocks, neurons inside a block, stride of the first block) of each stage
STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2))
EXPANSION = 4  # neurons of a block's output for each neuron inside

# Layers of each module: the first convolution goes with the first stage, or with its first block.
SPLITS = (
    ("3", (4, 4, 6)),
    ("13", (2, *(1 for _ in range(12)))),
)


def _block(name: str, inputs: int, inside: int, stride: int) -> Block:
    """A bottleneck: 1x1, 3x3 with the stride, 1x1; a 1x1 shortcut where shapes differ."""
    outputs = EXPANSION * inside
    path = (
        Conv(f"{name}.conv1", inputs, inside, (1, 1), padding=0),
        Conv(f"{name}.conv2", inside, inside, stride=stride),
        Conv(f"{name}.conv3", inside, outputs, (1, 1), padding=0, linear=True),
    )
    if stride == 1 and inputs == outputs:
        return Block(name, path)
    shortcut = Conv(f"{name}.shortcut", inputs, outputs, (1, 1), stride, 0, linear=True)
    return Block(name, path, shortcut)


def build(width: float = 1.0, channels: int = 1) -> Network:
    """A 5x5 convolution and 13 residual blocks in three stages, without batch normalisation.

    The first convolution (padding 2) has no ReLU: every block begins with one (He et al. 2016).
    The last stage of the usual ResNet-50 is left out, as published: patches are small. Names are
    those that torch gives to a ResNet: `layer2.0.conv1` stands in block 0 of stage 2.

    Args:
        width: multiplies the number of neurons of every layer (at least one stays).
        channels: of its input, 1 of grey images (as published), 3 of those in colour.

    Raises:
        UserError: a width that is not positive.
    """
    if not width > 0:
        raise UserError(f"--width must be positive, got {width}")
    inputs = max(1, round(STAGES[0][1] * width))
    layers: list[Conv | Block] = [Conv("conv1", channels, inputs, (5, 5), padding=2, linear=True)]
    for stage, (blocks, neurons, first) in enumerate(STAGES, 1):
        inside = max(1, round(neurons * width))
        for number in range(blocks):
            block = _block(f"layer{stage}.{number}", inputs, inside, first if number == 0 else 1)
            layers.append(block)
            inputs = block.outputs
    citation = "Loewe, O'Connor & Veeling, NeurIPS 2019; Illing et al. 2021, table 4"
    return Network("resnet50", tuple(layers), citation, SPLITS)
