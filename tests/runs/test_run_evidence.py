"""Runs whose maps are more than stacked masks: what is kept, and what is drawn of it."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from test_run import Drawn

import mdm_jax
from mdm_jax import PRESETS, InputError, MDMConfig, RunConfig
from mdm_jax.evaluation import saved_maps
from mdm_jax.progress import NullProgress
from mdm_jax.runs import compiled, verify
from mdm_jax.runs.loop import run_plan
from mdm_jax.runs.plan import prepare
from mdm_jax.runs.store import open_store

CONFIG = MDMConfig(sizes=(4, 8), steps=4)
COUNT = 3
F16 = 2e-3
"""tolerance of maps in [0, 1] that went through float16"""


@pytest.fixture(scope="module")
def explained(tiny):
    """The same images, explained without a run."""
    source = Drawn(COUNT)
    examples = [source[i] for i in range(COUNT)]
    images = np.stack([example.image for example in examples])
    return mdm_jax.explain(
        tiny, images, ids=[example.id for example in examples], config=CONFIG
    )


@pytest.fixture(scope="module")
def asked():
    return RunConfig(config=CONFIG, chunk=2, evidence=True)


@pytest.fixture(scope="module")
def kept(tiny, asked, tmp_path_factory):
    """A run that kept the evidence."""
    out = tmp_path_factory.mktemp("runs") / "kept"
    mdm_jax.run(tiny, Drawn(COUNT), out, asked)
    return mdm_jax.open_run(out)


def test_maps_of_evidence_are_kept_unasked(kept, explained):
    assert kept.settings["saliency"] is False
    assert kept.saliency_maps.dtype == np.float16
    np.testing.assert_allclose(kept.saliency(2), explained.saliency[2], atol=F16)


def test_mask_vectors_are_mask_vectors_only(kept, explained):
    assert [array.shape for array in kept.mask_vectors] == [(3, 4, 4), (3, 8, 8)]
    for stored, vectors in zip(kept.mask_vectors, explained.mask_vectors):
        np.testing.assert_allclose(stored[...], vectors, atol=1e-5)


def test_evidence_and_rankings(kept, explained):
    assert kept.evidence.dtype == np.float16
    np.testing.assert_allclose(kept.evidence[...], explained.evidence, rtol=F16, atol=1e-2)
    found = kept.ranking_of(range(COUNT))
    np.testing.assert_allclose(found, explained.ranking, atol=2 * F16)
    np.testing.assert_array_equal(kept.ranking(1), found[1])


def test_a_run_is_evaluated_by_its_ranking(kept):
    found = saved_maps.read(kept.store.folder)
    np.testing.assert_array_equal(found.ranking, kept.ranking_of(range(COUNT)))
    assert not found.lost_ranking


def test_a_ranking_needs_the_evidence(tiny, tmp_path):
    mdm_jax.run(tiny, Drawn(1), tmp_path / "run", RunConfig(config=CONFIG))
    run = mdm_jax.open_run(tmp_path / "run")
    assert run.evidence is None
    assert run.saliency_maps is not None
    with pytest.raises(InputError, match="did not keep the evidence"):
        run.ranking(0)
    found = saved_maps.read(tmp_path / "run")
    assert found.ranking is None
    assert found.lost_ranking


@pytest.mark.parametrize(
    "method", [{"method": "gradient"}, {"config": PRESETS["fast-2026-11"]}]
)
def test_methods_without_evidence_are_told(tiny, tmp_path, method):
    with pytest.raises(InputError, match="gathers no evidence: leave evidence out"):
        mdm_jax.run(tiny, Drawn(1), tmp_path / "run", RunConfig(evidence=True, **method))
    assert not (tmp_path / "run").exists()


def test_evidence_binds(tiny, kept):
    """It is a setting like others, off in a run.json that does not say it."""
    with pytest.raises(InputError, match=r"settings\.evidence true -> false"):
        mdm_jax.run(tiny, Drawn(COUNT), kept.place, RunConfig(config=CONFIG, chunk=2))
    plan = prepare(tiny, Drawn(COUNT), RunConfig(config=CONFIG, chunk=2))
    description = plan.description()
    older = json.loads(json.dumps(description))
    del older["settings"]["evidence"]
    store = open_store("memory://older-run")
    store.write_description(older)
    assert store.changes(description, plan.defaults) == []


def test_damaged_evidence_is_found_and_computed_again(tiny, asked, tmp_path):
    store = open_store(tmp_path / "run")
    plan = prepare(tiny, Drawn(COUNT), asked)
    run_plan(plan, store, NullProgress())
    before = mdm_jax.open_run(tmp_path / "run").evidence[...]
    (tmp_path / "run" / "evidence" / "c" / "0" / "0" / "0").write_bytes(b"damaged")
    (tmp_path / "run" / "evidence" / "c" / "1" / "0" / "0").unlink()
    faults = [(fault.what, fault.key) for fault in verify.check(store)]
    assert faults == [("corrupt", "evidence/c/0/0/0"), ("missing", "evidence/c/1/0/0")]
    verify.mend(store, plan)
    run_plan(plan, store, NullProgress())
    assert verify.check(store) == []
    found = mdm_jax.open_run(tmp_path / "run").evidence[...]
    np.testing.assert_array_equal(found, before)


def test_rows_without_a_result_have_no_ranking(tiny, asked, tmp_path):
    mdm_jax.run(tiny, Drawn(2, missing=(1,)), tmp_path / "run", asked)
    run = mdm_jax.open_run(tmp_path / "run")
    assert np.isfinite(run.ranking(0)).all()
    assert np.isnan(run.evidence[1]).all()
    with pytest.raises(InputError, match=r"row 1 .* has no ranking \(UNREADABLE"):
        run.ranking(1)


def test_smoothing_is_for_maps_that_are_kept(tiny):
    smooth = MDMConfig(sizes=(4,), steps=1, smoothing=2.0)
    prepare(tiny, Drawn(1), RunConfig(config=smooth))
    joint = PRESETS["fast-2026-11"]
    joint = MDMConfig(**vars(joint) | {"smoothing": 2.0})
    with pytest.raises(InputError, match="drawn from stored mask vectors are not smoothed"):
        prepare(tiny, Drawn(1), RunConfig(config=joint))
    prepare(tiny, Drawn(1), RunConfig(config=joint, saliency=True))


def test_evidence_stays_in_the_range_of_float16(tiny, asked, explained):
    plan = prepare(tiny, Drawn(1), asked)
    one = jax.tree.map(lambda leaf: leaf[0], explained)
    one = one._replace(evidence=np.asarray([[1e6, -1e6]], np.float32))
    choice = compiled.TargetChoice(np.int32(0), np.int32(0), np.float32(1))
    found = compiled.make_result(plan.programs[0].spec, one, choice).evidence
    assert found.tolist() == [[65504.0, -65504.0]]
