"""Figures of kernels, patches and embeddings: what they show is what they were given."""

import numpy as np
from matplotlib.patches import Rectangle

from plasticity import figures

RNG = np.random.default_rng(0)


def test_a_box_is_drawn_around_its_pixels():
    images = RNG.integers(0, 255, (2, 3, 24, 24), dtype=np.uint8)
    boxes = RNG.integers(0, 16, (2, 3, 2))
    figure = figures.patches({"trained": (images, boxes)}, ["conv1\n4", "conv1\n7"], 8)
    (axes,) = figure.axes
    canvas = axes.images[0].get_array()
    drawn = [shape for shape in axes.patches if isinstance(shape, Rectangle)]
    for box, (j, i) in zip(drawn, np.ndindex(2, 3), strict=True):
        left, top = (round(v + 0.5) for v in box.get_xy())
        x, y = boxes[j, i]
        inside = canvas[top : top + round(box.get_height()), left : left + round(box.get_width())]
        np.testing.assert_array_equal(inside, images[j, i, y : y + 8, x : x + 8])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["conv1\n4", "conv1\n7"]


def test_trained_and_random_stand_side_by_side():
    images, boxes = np.zeros((1, 2, 8, 8), np.uint8), np.zeros((1, 2, 2), int)
    blocks = {"trained": (images, boxes), "random weights": (images, boxes)}
    figure = figures.patches(blocks, ["a"], 4)
    assert [axes.get_title() for axes in figure.axes] == ["trained", "random weights"]


def test_kernels_share_one_scale_around_zero():
    small, large = np.array([[0.5, np.nan, -0.1]]), np.array([[1.0, np.nan, -2.0]])
    figure = figures.kernel_grid({"trained": small, "random weights": large}, "conv1")
    assert {axes.images[0].get_clim() for axes in figure.axes[:2]} == {(-2.0, 2.0)}
    assert figure.axes[2].get_xlabel().startswith("weight")


def test_kernels_of_colours_are_shown_in_them():
    """A weight of 0 is grey, the largest one full, its opposite none of a colour."""
    weight = np.zeros((2, 3, 1, 1))
    weight[0, :, 0, 0] = 2.0, 0.0, -2.0
    image = figures.mosaic(figures.kernels(weight, colour=True), 2)
    figure = figures.kernel_grid({"trained": image}, "conv1")
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown[0], [[1.0, 0.5, 0.0], [1.0] * 3, [0.5] * 3])
    assert "a weight of 0" in figure.get_supxlabel()


def test_patches_in_colour_keep_their_colours():
    images = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 8, 3), np.uint8)
    figure = figures.patches({"trained": (images, np.zeros((1, 1, 2), int))}, ["a"], 4)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), images[0, 0])


def test_every_image_is_a_point_of_its_class():
    labels = np.arange(24) % 12
    points = [RNG.standard_normal((24, 2)) for _ in range(2)]
    classes = [f"class {i}" for i in range(12)]
    figure = figures.embeddings(
        {"random weights": points, "trained": [points[0], None]}, ["a", "b"], labels, classes
    )
    shown = figure.axes[2].collections  # a row for each layer
    for kind, own in enumerate(shown):
        np.testing.assert_array_equal(own.get_offsets(), points[1][labels == kind])
    looks = {(tuple(own.get_facecolor()[0]), own.get_paths()[0].vertices.size) for own in shown}
    assert len(looks) == 12  # after ten colours another marker
    assert [text.get_text() for text in figure.axes[3].texts] == ["silent"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == classes


def test_images_without_labels_are_points_of_one_colour():
    figure = figures.embeddings({"trained": [RNG.standard_normal((6, 2))]}, ["a"], None, ())
    assert len(figure.axes[0].collections[0].get_offsets()) == 6 and not figure.legends
