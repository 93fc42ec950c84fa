"""What a sweep says: values by hand, ranks, the front, and figures in which nothing lies on
anything else."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from mdm_jax import InputError
from mdm_jax.config import PRESETS
from mdm_jax.evaluation.statistics import Measured
from mdm_jax.metrics import Metric
from mdm_jax.sweeps import export_preset, grid
from mdm_jax.sweeps.point_result import DIAGNOSTICS, PointResult
from mdm_jax.sweeps.points import point
from mdm_jax.sweeps.result import Sweep
from mdm_jax.views import sweep_figures


def outcome(evaluations, gains, losses, forwards=0):
    """Four images by hand; the loss is known of three."""
    diagnostics = dict.fromkeys(DIAGNOSTICS, np.zeros(4)) | {
        "evaluations": np.full(4, evaluations),
        "forwards": np.full(4, forwards),
    }
    measured = {"gain:t": Measured(np.asarray(gains, float), np.arange(4))}
    return PointResult(
        diagnostics,
        measured | {"loss:t": Measured(np.asarray(losses, float), np.asarray([0, 2, 3]))},
    )


@pytest.fixture(scope="module")
def by_hand():
    asked = [Metric("gain", "t", print, "higher"), Metric("loss", "t", print, "lower")]
    outcomes = [
        outcome(10, [1, 1, 1, 1], [0, 0, 0]),
        outcome(20, [3, 1, 3, 1], [1, 1, 1]),
        outcome(20, [5, 5, 5, 5], [1, 0, 2]),
        outcome(40, [5, 5, 5, 5], [1, 1, 1]),
        outcome(5, [0, 0, 0, 0], [9, 9, 9]),
    ]
    axes = {"learning_rate": [0.1, 0.2, 0.3, 0.4, 0.5]}
    entries = tuple(point(each, PRESETS["fast"], "probability") for each in grid(axes))
    return Sweep(
        entries, {each.id: each for each in asked}, tuple(outcomes), ("a", "b", "c", "d")
    )


def test_rank_front_and_quality_by_hand(by_hand):
    np.testing.assert_array_equal(
        by_hand.quality({"gain": 1, "loss:t": -1}), [1, 1, 4, 4, -9]
    )
    assert by_hand.rank().tolist() == [2, 3, 0, 1, 4]  # of equals the cheaper
    assert by_hand.pareto().tolist() == [4, 0, 2]
    assert by_hand.rank({"loss": -2.0}).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(by_hand.forward_passes, [30, 60, 60, 120, 15])
    warm = replace(
        by_hand,
        outcomes=(outcome(10, [1] * 4, [0] * 3, forwards=844), *by_hand.outcomes[1:]),
    )
    assert warm.evaluations[0] == 10
    assert warm.pareto().tolist() == [4, 2]  # evaluations without a gradient are not free
    assert by_hand.quality_interval({"gain": 1}, 0) == (1, 1)
    low, high = by_hand.quality_interval({"gain": 1}, 1)
    assert 1 <= low < 2 < high <= 3
    assert np.isnan(
        by_hand.quality_interval({"gain": 1, "loss": -1}, 0)
    ).all()  # of different images
    some = by_hand.of_images([1, 2])
    assert some.ids == ("b", "c")
    np.testing.assert_array_equal(some.values("gain"), [1, 2, 5, 5, 0])
    np.testing.assert_array_equal(some.values("loss"), [0, 1, 0, 1, 9])
    assert some.scores[2].measured["loss:t"].rows.tolist() == [1]


@pytest.mark.parametrize(
    ("quality", "sentence"),
    [
        ({}, "the quality has no metrics"),
        ({"gian": 1}, "unknown metric of this sweep 'gian'"),
        ({"loss": 1}, "lower is better, give one below zero"),
        ({"gain": float("nan")}, "give a number"),
    ],
)
def test_quality_that_cannot_be(by_hand, quality, sentence):
    with pytest.raises(InputError, match=sentence):
        by_hand.rank(quality)


def test_points_that_no_place_or_number_has(by_hand, tmp_path):
    with pytest.raises(InputError, match="there is no point 9"):
        export_preset.save_preset(by_hand, 9, tmp_path / "x.toml")
    with pytest.raises(InputError, match="there is no folder"):
        export_preset.save_preset(by_hand, 0, tmp_path / "nowhere" / "x.toml")
    with pytest.raises(InputError, match="give one or more, counted from 0"):
        by_hand.of_images([4])


AXES = {
    "learning_rate": [0.01, 0.1, 1.0],
    "objective.area": [1.0, 2.0, 40.0],
    "fill": ["blur", "mean"],
    "sizes": [[4, 8, 16, 32], [8]],
}


@pytest.fixture(scope="module")
def drawn():
    """36 points of growing cost and random quality; the last one failed."""
    rng, entries = np.random.default_rng(0), []
    outcomes = []
    for number, settings in enumerate(grid(AXES)):
        entries.append(point(settings, PRESETS["fast"], "probability"))
        gains = rng.uniform(0, 1, 4) + number * rng.uniform(0, 0.1)
        outcomes.append(outcome(4.0 + 2 * number, gains, rng.uniform(0, 1, 3)))
    outcomes[-1] = PointResult(outcomes[-1].diagnostics, {}, {"": "the maps hold NaN"})
    asked = [Metric("gain", "t", print, "higher"), Metric("loss", "t", print, "lower")]
    return Sweep(
        tuple(entries),
        {each.id: each for each in asked},
        tuple(outcomes),
        ("a", "b", "c", "d"),
    )


def boxes(figure, monkeypatch):
    """Where every text that is drawn lies, in pixels."""
    drawn, draw = [], Text.draw

    def noted(text, renderer):
        drawn.append(text)
        draw(text, renderer)

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # the layout is made while drawing
    monkeypatch.setattr(Text, "draw", noted)
    canvas.draw()
    renderer = canvas.get_renderer()
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in drawn
        if text.get_text().strip()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pareto", "parallel", "heatmap"])
def test_no_text_of_a_figure_lies_on_another_or_outside(drawn, kind, monkeypatch):
    figure = getattr(sweep_figures, kind)(drawn)
    found = [
        (text, box)
        for text, box in boxes(figure, monkeypatch)
        if not (kind == "pareto" and text.isdecimal())
    ]  # numbers of points
    assert len(found) > 12
    for text, box in found:
        assert figure.bbox.x0 - 1 <= box.x0, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for i, (text, box) in enumerate(found):
        for other, another in found[:i]:
            apart = (
                min(box.x1, another.x1) - max(box.x0, another.x0),
                min(box.y1, another.y1) - max(box.y0, another.y0),
            )
            assert min(apart) <= 1.5, (text, other)


def test_a_heat_map_shows_the_best_over_the_other_settings(drawn):
    figure = sweep_figures.heatmap(drawn, "objective.area", "learning_rate", {"gain": 1.0})
    shown = figure.axes[0].images[0].get_array()
    values = drawn.values("gain").reshape(3, 3, 4)  # learning rate, area, the others
    np.testing.assert_allclose(shown, np.nanmax(values, axis=-1))
    assert figure.axes[0].get_xlabel() == "objective.area"
    with pytest.raises(InputError, match="unknown numeric setting that varies 'fill'"):
        sweep_figures.heatmap(drawn, "fill")


def test_figures_of_one_point_and_of_none_that_could_be_scored(by_hand):
    one = replace(by_hand, entries=by_hand.entries[:1], outcomes=by_hand.outcomes[:1])
    for figure in (sweep_figures.pareto(one), sweep_figures.parallel(one)):
        FigureCanvasAgg(figure).draw()
    with pytest.raises(
        InputError,
        match="a heat map needs two numeric settings that vary: this sweep has none",
    ):
        sweep_figures.heatmap(one)
    none = replace(
        one, outcomes=(PointResult(one.outcomes[0].diagnostics, {}, {"": "no"}),)
    )
    for plot in (sweep_figures.pareto, sweep_figures.parallel):
        with pytest.raises(InputError, match="no point of this sweep could be scored"):
            plot(none)
    with pytest.raises(InputError, match="no point of this sweep could be ranked"):
        _ = none.best


def test_methods_that_became_functions_still_work_and_say_so(by_hand, tmp_path):
    with pytest.warns(DeprecationWarning, match=r"mdm_jax\.views\.sweep_figures\.pareto"):
        assert by_hand.plot_pareto().axes
    with pytest.warns(
        DeprecationWarning, match=r"mdm_jax\.sweeps\.export_preset\.save_preset"
    ):
        path = by_hand.save_preset(tmp_path / "x.toml", 0)
    assert path.read_text() == export_preset.save_preset(by_hand, 0, path).read_text()


def test_the_best_point(by_hand):
    assert by_hand.best == by_hand.points[2] == {"learning_rate": 0.3}
