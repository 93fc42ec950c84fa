"""The win matrix: who is first, tied or lost follows from scores made up for the purpose."""

import csv
import io
import json

import numpy as np
import pytest

from mdm_jax import metrics
from mdm_jax.evaluation import win_matrix, win_matrix_text
from mdm_jax.evaluation.benchmark import Entry
from mdm_jax.evaluation.cost import Cost
from mdm_jax.evaluation.statistics import Measured, Scores
from mdm_jax.views import win_matrix_figure

ENERGY, DELETION, GINI = "energy:mask", "deletion:rise-28", "sparseness:gini"
IMAGES = 40
# what differs from image to image, for all methods alike
HARD = np.random.default_rng(0).uniform(0.2, 0.6, IMAGES)


def noise(seed, scale=0.02):
    return np.random.default_rng(seed).normal(0, scale, IMAGES)


def entry(method, cost=(15, 3), network="net", images=IMAGES, **statistics):
    """A method with the statistics of each metric by its name, on the first images."""
    measured, known = {}, {}
    for name, values in statistics.items():
        metric = metrics.find(name)
        known[metric.id] = metric
        values = np.asarray(values)[:images]
        if metric.name == "deletion":  # a curve an image; its area is the value
            values = np.repeat(values[:, None], 5, axis=1)
        measured[metric.id] = Measured(values, np.arange(len(values)))
    ids = tuple(map(str, range(images)))
    return Entry(network, method, Cost(*map(float, cost)), Scores(ids, known, measured))


def compare(*entries, names=("energy",), **more):
    known = metrics.find_all(names)
    return win_matrix.compare(entries, known, "mdm", **more)


def test_first_needs_every_interval_apart_and_names_the_nearest():
    matrix = compare(
        entry("mdm", energy=HARD + 0.1),
        entry("rise", energy=HARD + 0.05 + noise(1)),
        entry("random", energy=HARD - 0.1 + noise(2)),
    )
    (cell,) = matrix.cells
    assert (cell.verdict, cell.rival, cell.rivals, cell.images) == ("first", "rise", 2, 40)
    assert cell.difference == pytest.approx(0.05, abs=0.01)
    assert 0 < cell.interval.low < cell.difference < cell.interval.high


def test_one_rival_that_is_not_told_apart_ties():
    matrix = compare(
        entry("mdm", energy=HARD),
        entry("rise", energy=HARD + noise(1)),
        entry("random", energy=HARD - 0.1 + noise(2)),
    )
    (cell,) = matrix.cells
    assert (cell.verdict, cell.rival) == ("tied", "rise")
    assert cell.interval.low <= 0 <= cell.interval.high


def test_a_tie_is_decided_among_those_that_tie():
    """A rival nearer by its value, but apart, is not the one that the cell is about."""
    wide = np.where(np.arange(IMAGES) % 2, 0.4, -0.5)
    matrix = compare(
        entry("mdm", energy=HARD),
        entry("narrow", energy=HARD - 0.01 + noise(1, 0.001)),
        entry("wide", energy=HARD + wide),
    )
    (cell,) = matrix.cells
    assert (cell.verdict, cell.rival) == ("tied", "wide")


def test_lost_names_the_rival_that_is_better_by_most():
    matrix = compare(
        entry("mdm", energy=HARD),
        entry("rise", energy=HARD + 0.03 + noise(1)),
        entry("center", energy=HARD + 0.09 + noise(2)),
        entry("random", energy=HARD - 0.2 + noise(3)),
    )
    (cell,) = matrix.cells
    assert (cell.verdict, cell.rival) == ("lost", "center")
    assert cell.difference == pytest.approx(-0.09, abs=0.01)
    assert cell.interval.high < 0


def test_where_less_is_better_the_sign_is_turned():
    ours, theirs = entry("mdm", deletion=HARD), entry("rise", deletion=HARD + 0.1)
    (cell,) = compare(ours, theirs, names=("deletion",)).cells
    assert (cell.verdict, cell.difference) == ("first", pytest.approx(0.1))
    better = entry("rise", deletion=HARD - 0.1 + noise(1))
    (cell,) = compare(ours, better, names=("deletion",)).cells
    assert cell.verdict == "lost"
    assert cell.interval.low < cell.difference < cell.interval.high < 0


def test_what_cannot_be_compared_has_no_cell():
    ours = entry("mdm", energy=HARD)
    few = compare(ours, entry("rise", images=5, energy=HARD - 0.1))
    assert not few.cells
    assert few.too_few == {("", "net"): ("rise",)}
    assert compare(ours, entry("rise", images=6, energy=HARD - 0.1)).cells
    assert not compare(ours, entry("rise", deletion=HARD)).cells
    assert not compare(ours, Entry("net", "rollout", notes={"": "no attention"})).cells
    assert not compare(entry("rise", energy=HARD), entry("center", energy=HARD)).cells


def test_a_metric_that_says_nothing_of_better_is_left_out():
    plain = metrics.find("energy")
    neutral = plain.__class__(**{**vars(plain), "better": "none"})
    entries = entry("mdm", energy=HARD), entry("rise", energy=HARD - 0.1)
    matrix = win_matrix.compare(entries, {neutral.id: neutral}, "mdm")
    assert matrix.cells == ()


def test_costly_rivals_count_only_without_a_limit():
    entries = (
        entry("mdm", cost=(15, 3), energy=HARD),  # 16 evaluations
        entry("smoothgrad", cost=(50, 3), energy=HARD - 0.1),
        entry("rise", cost=(0, 600), energy=HARD + 0.1 + noise(1)),  # 200 evaluations
        entry(
            "occlusion", cost=(0, 480), energy=HARD - 0.2
        ),  # 160 evaluations: just within
    )
    assert compare(*entries).cells[0].verdict == "lost"
    limited = compare(*entries, cost_limit=10.0)
    (cell,) = limited.cells
    assert (cell.verdict, cell.rival, cell.rivals) == ("first", "smoothgrad", 2)
    assert limited.left_out == {("", "net"): ("rise",)}
    assert "left out for their cost on net: rise" in win_matrix_text.markdown(limited)


def test_only_images_that_both_have_are_compared():
    """On the first ten images the rival is better; on the others the reference is far ahead."""
    ours = HARD + np.where(np.arange(IMAGES) < 10, 0, 0.3)
    theirs = HARD + 0.05 + noise(1)
    ours_entry = entry("mdm", energy=ours)
    assert compare(ours_entry, entry("rise", energy=theirs)).cells[0].verdict == "first"
    (cell,) = compare(ours_entry, entry("rise", images=10, energy=theirs)).cells
    assert (cell.verdict, cell.images) == ("lost", 10)


def test_who_has_too_few_images_is_named():
    entries = entry("mdm", energy=HARD), entry("rise", images=5, energy=HARD)
    text = win_matrix_text.markdown(compare(*entries, entry("center", energy=HARD)))
    assert "- left out with fewer than 6 images on net: rise" in text


def joined():
    rivals = {"data": "digits"}
    one = compare(entry("mdm", energy=HARD), entry("rise", energy=HARD - 0.1), **rivals)
    two = compare(
        entry("mdm", network="vit", energy=HARD, deletion=HARD),
        entry(
            "rise", network="vit", energy=HARD + 0.1 + noise(1), deletion=HARD + noise(2)
        ),
        names=("energy", "deletion"),
        data="ECSSD",
    )
    return win_matrix.join([one, two])


def test_several_data_sets_join_and_are_counted():
    matrix = joined()
    assert matrix.rows == (("digits", "net"), ("ECSSD", "vit"))
    assert matrix.count() == {"first": 1, "tied": 1, "lost": 1}
    assert matrix.count(DELETION) == {"first": 0, "tied": 1, "lost": 0}
    assert matrix.find(("digits", "net"), DELETION) is None
    limited = compare(
        entry("mdm", energy=HARD), entry("rise", energy=HARD - 0.1), cost_limit=10.0
    )
    with pytest.raises(ValueError, match="cost limits"):
        win_matrix.join([matrix, limited])


def test_the_markdown_writes_what_is_lost_in_bold():
    lines = win_matrix_text.markdown(joined()).splitlines()
    digits = next(line for line in lines if line.startswith("| digits"))
    vit = next(line for line in lines if line.startswith("| ECSSD"))
    assert "first +.100 over rise" in digits
    assert "n/a" in digits
    assert "**" not in digits
    assert vit.count("**") == 2
    assert "**lost -.1" in vit
    assert "to rise [-" in vit
    assert "tied (rise " in vit
    assert "mdm against all others: first 1, tied 1, lost 1 of 3" in lines


def test_records_and_csv_hold_all_of_the_matrix():
    matrix = joined()
    records = json.loads(json.dumps(win_matrix_text.to_records(matrix)))
    assert win_matrix_text.from_records(records) == matrix
    rows = list(csv.DictReader(io.StringIO(win_matrix_text.to_csv([matrix]))))
    assert [row["outcome"] for row in rows] == ["first", "lost", "tied"]
    assert float(rows[1]["value"]) == matrix.cells[1].difference


def test_the_picture_says_verdict_rival_and_difference():
    figure = win_matrix_figure.draw(joined())
    texts = [text.get_text() for text in figure.axes[0].texts]
    for words in ("▲ first +.100", "rise", "digits · net", "energy", "n/a"):
        assert words in texts
    assert any(text.startswith("▼ lost -.") for text in texts)
    grounds = {patch.get_facecolor() for patch in figure.axes[0].patches}
    assert len(grounds) == 3
