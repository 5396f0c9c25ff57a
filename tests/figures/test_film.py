"""Figures of clips: what they show is what they were given."""

import numpy as np
from matplotlib.patches import Rectangle

from plasticity import figures

RNG = np.random.default_rng(0)


def test_frames_are_boxed_where_the_neuron_answers_above_its_answer_over_time():
    T, h, w = 8, 12, 20
    pixels = RNG.integers(0, 256, (T, h, w, 3), np.uint8)
    times, corner = np.array([1.0, 6.0]), np.array([[2, 3], [-1, 15]])
    strongest, mean = RNG.random((2, 2))
    one = figures.Response("conv4\n3", pixels, times, strongest, mean, corner, (6, 9))
    strip, line = figures.clips([one, one], "a run", shown=4).axes[:2]
    image = strip.images[0].get_array()
    frames = [1, 3, 5, 7]  # the middles of a quarter each
    np.testing.assert_array_equal(image, np.concatenate([pixels[f] for f in frames], axis=1))
    boxes = [shape for shape in strip.patches if isinstance(shape, Rectangle)]
    assert len(boxes) == 4
    for number, (frame, box) in enumerate(zip(frames, boxes, strict=True)):
        top, left = corner[np.abs(times - frame).argmin()]
        sides = (max(top, 0), min(top + 6, h)), (max(left, 0), min(left + 9, w))
        (top, bottom), (left, right) = sides
        x = 2 * number - 0.5 + 2 / w * left  # two frames of time are 20 pixels wide
        np.testing.assert_allclose(box.get_xy(), (x, top - 0.5))
        np.testing.assert_allclose([box.get_width() * w / 2, box.get_height()],
                                   [right - left, bottom - top])  # fmt: skip
    for drawn, wanted in zip(line.lines, (strongest, mean), strict=True):
        np.testing.assert_array_equal(drawn.get_xydata(), np.stack([times, wanted], axis=1))
    assert strip.get_xlim() == line.get_xlim() == (-0.5, 7.5)
