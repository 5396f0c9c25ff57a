"""Figures of scores, gates and predictions: what they show is what they were given."""

import numpy as np
import pytest

from plasticity import figures
from plasticity.inspection.comparisons import ModuleEvents, Prediction

RNG = np.random.default_rng(0)


def module(layer="conv1", hinged=True, scale=1.0):
    score, label = scale * RNG.standard_normal(400), np.repeat([1.0, -1.0], 200)
    opened = 1 - label * score > 0 if hinged else np.ones(400, bool)
    gates = [
        {"role": role, "k": k, "sign": sign, "events": 10, "open": 0.1 * k + 0.05 * (sign > 0)}
        for role in ("target", "context")
        for k in (1, 2, 3)
        for sign in (1, -1)
    ]
    return ModuleEvents(layer, score, label, opened, gates, hinged)


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_all_events_of_a_sign_are_in_the_bars_and_the_loss_is_the_hinge(scale):
    figure = figures.hinge([module(scale=scale)])
    bars, loss = figure.axes
    low, high = bars.get_xlim()
    assert low <= -1.5 and high >= 1.5  # the kinks are always seen
    for stairs in bars.patches:
        assert stairs.get_data().values.sum() == pytest.approx(100)
    for line, sign in zip(loss.get_lines(), (1, -1), strict=True):
        u, L = line.get_data()
        np.testing.assert_allclose(L, np.maximum(0, 1 - sign * u))
        assert {-1.0, 1.0} <= set(u)
    assert figure.get_supxlabel().startswith("score u") and "%" in figure.get_supylabel()


def test_the_axis_holds_large_scores_unless_they_are_few():
    (many, _), (few, _) = (figures.hinge([m]).axes for m in (module(scale=100), module()))
    assert many.get_xlim()[1] > 100
    one = module()
    one.score[:8] = 500.0
    axes, _ = figures.hinge([one]).axes
    assert axes.get_xlim()[1] == 6.0 and few.get_xlim()[1] < 6.0


def test_a_rule_with_other_gates_is_shown_without_the_hinge():
    figure = figures.hinge([module("conv1"), module("conv2", hinged=False)])
    titles = [axes.get_title() for axes in figure.axes]
    assert len(figure.axes) == 3 and titles[1] == "conv2 (open 100%, 100%)"


def test_one_sign_alone_is_shown():
    one = module()
    keep = one.label > 0
    figure = figures.hinge(
        [ModuleEvents("conv1", one.score[keep], one.label[keep], one.open[keep], one.gates)]
    )
    assert len(figure.axes[0].patches) == 1


def test_gates_are_drawn_by_prediction_step_role_and_sign():
    figure = figures.gates([module("a"), module("b"), module("c"), module("d")])
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "d"]
    lines = {line.get_label(): line.get_data() for line in figure.axes[3].get_lines()}
    assert set(lines) == {
        f"{role}, {sign}" for role in ("target", "context") for sign in ("positive", "negative")
    }
    k, opened = lines["context, positive"]
    assert list(k) == [1, 2, 3] and opened == pytest.approx([15, 25, 35])


def prediction(layer, retro=True):
    norm, spectrum = np.array([2.0, 3.0]), np.array([[2.0, 1, 0.1], [3, 2, 1]])
    rest = (2 * norm, np.array([0.5, 0.25])) if retro else (None, None)
    return Prediction(layer, norm, spectrum, *rest)


def test_norms_are_relative_to_the_start_and_spectra_stand_beside_it():
    figure = figures.predictions([prediction("a"), prediction("b")], [prediction("a")] * 2)
    norm, cosine, spectrum = figure.axes
    assert all(list(line.get_ydata()) == [1, 1] for line in norm.get_lines())
    assert list(cosine.get_lines()[0].get_ydata()) == [0.5, 0.25]
    assert list(spectrum.get_lines()[0].get_data()[1]) == [2, 1, 0.1]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["a", "b"]


def test_a_recorded_alignment_is_drawn_over_steps():
    recorded = {"a": (np.array([1, 11, 21]), np.array([[0.0, 0.2], [0.1, 0.3], [0.4, 0.6]]))}
    figure = figures.predictions([prediction("a")], [prediction("a")], recorded)
    steps, cosine = figure.axes[1].get_lines()[0].get_data()
    assert list(steps) == [1, 11, 21] and cosine == pytest.approx([0.1, 0.2, 0.5])
    assert figure.axes[1].get_xlabel() == "step"


def test_without_w_retro_there_is_no_alignment():
    figure = figures.predictions([prediction("a", False)], [prediction("a", False)])
    assert len(figure.axes) == 2
