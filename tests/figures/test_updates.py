"""Figures of updates: what they show is what they were given."""

import numpy as np
import pytest

from plasticity import figures
from plasticity.figures import updates

RNG = np.random.default_rng(0)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_kernel_shows_the_numbers_of_its_map_in_one_unit():
    dW = np.array([[1e-4, -2.5e-4, 0.0]] * 3)
    shares = [
        {"role": role, "k": k, "sign": sign, "share": 1e-4 * k * sign}
        for role in ("target", "context")
        for k in (1, 2)
        for sign in (1, -1)
    ]
    figure = figures.kernel(dW, (0, 1), shares)
    assert texts(figure) == ["1.00", "−2.50", "0.00"] * 3
    (bars,) = [axes for axes in figure.axes if axes.get_ylabel().startswith("share of dW")]
    heights = sorted(patch.get_height() for patch in bars.patches)
    assert heights == pytest.approx(sorted(row["share"] for row in shares))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "target, y = +1",
        "target, y = −1",
        "context, y = +1",
        "context, y = −1",
    ]


def test_a_layer_shows_the_largest_entry_of_each_kernel():
    dW = RNG.standard_normal((5, 4, 3, 3))
    drive, post, pre = RNG.standard_normal((7, 5)), RNG.random((7, 5)), RNG.random((7, 4))
    figure = figures.layer_update(dW, drive, post, pre, np.sign(drive.T[:2]), ["target 1", "b"])
    shown = {axes.get_title() or id(axes): axes.images[0] for axes in figure.axes if axes.images}
    images = [np.asarray(image.get_array()) for image in shown.values()]
    largest = np.take_along_axis(
        dW.reshape(5, 4, 9), np.abs(dW.reshape(5, 4, 9)).argmax(2)[..., None], 2
    )
    for wanted in (largest[..., 0], drive.T, post.T, pre):
        assert any(image.shape == wanted.shape and np.allclose(image, wanted) for image in images)


def test_a_layer_of_one_input_shows_every_offset_and_no_gate_below_a_top():
    dW = RNG.standard_normal((5, 1, 3, 3))
    drive, post, pre = RNG.standard_normal((7, 5)), RNG.random((7, 5)), RNG.random((7, 1))
    figure = figures.layer_update(dW, drive, post, pre)
    assert any(axes.images and axes.images[0].get_array().shape == (5, 9) for axes in figure.axes)
    assert any("the error" in text for text in texts(figure))


def test_a_large_image_keeps_its_extremes():
    image = RNG.standard_normal((1000, 777))
    image[501, 333], image[7, 0] = 99, -77
    thinned = updates._thinned(image)
    assert max(thinned.shape) == updates.PIXELS
    assert thinned.max() == 99 and thinned.min() == -77


@pytest.mark.parametrize("times", [1, 20, 100])
def test_a_trace_shows_dw_and_what_made_it(times, tmp_path):
    steps, shape = 1 + 10 * np.arange(times), (times, 2, 3)
    share = RNG.standard_normal(shape) * 1e-4
    factors = {name: RNG.random(shape) for name in ("dendrite", "post", "pre")}
    factors |= {"dW": share.sum(axis=(1, 2)), "share": share}
    figure = figures.trace(steps, factors, ["target", "context"], "one synapse")
    first, *_, last = figure.axes
    np.testing.assert_array_equal(first.lines[0].get_ydata(), factors["dW"])
    np.testing.assert_allclose(first.lines[2].get_ydata(), share[:, 1].sum(axis=1))
    assert len(figure.axes) == 4 and last.get_xlabel() == "step"
    figures.save(figure, tmp_path / "trace.svg")
    assert "one synapse" in (tmp_path / "trace.svg").read_text()


def test_a_trace_below_a_top_has_its_error_alone():
    figure = figures.trace(np.arange(3), {"dW": np.ones(3), "error": np.zeros(3)})
    assert [axes.get_ylabel().partition(" ")[0] for axes in figure.axes] == ["dW", "error"]


def test_gates_over_training_leave_out_signs_that_nobody_drew():
    gates = np.full((70, 2, 3, 2), np.nan)
    gates[:, 0] = 0.5
    gates[3, 0, :, 1] = np.nan  # no image drew this sign in this step
    figure = figures.gate_history(np.arange(70), gates, ["target", "context"], [1, 2, 3])
    assert [axes.get_title() for axes in figure.axes] == ["target, y = +1", "target, y = −1"]
    for axes in figure.axes:
        for line in axes.lines:
            np.testing.assert_allclose(line.get_ydata(), 50)
    aligned = figures.gate_history(
        np.arange(70), gates, ["target", "context"], [1, 2, 3], np.zeros((70, 3))
    )
    assert "cosine" in aligned.axes[-1].get_title()
