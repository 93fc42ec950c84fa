"""Runs in this process: what is stored, that nothing but the image decides it, and how bad input is
told."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mdm_jax
from mdm_jax import PRESETS, InputError, MDMConfig, RunConfig
from mdm_jax.data.source import Example
from mdm_jax.evaluation import saved_maps
from mdm_jax.progress import NullProgress, Stopped
from mdm_jax.runs import distributed
from mdm_jax.runs.loop import run_plan
from mdm_jax.runs.plan import prepare
from mdm_jax.runs.store import open_store
from mdm_jax.runs.targets import parse_targets

CONFIG = MDMConfig(sizes=(4, 8), steps=4)

# Its maps are stacked masks, which a run draws; and it may run until it converges.
JOINT = dataclasses.replace(PRESETS["fast-2026-11"], sizes=(4, 8), steps=4)
SMOOTH = np.asarray(np.random.default_rng(7).normal(size=(3072, 3)), np.float32) / 20


def smooth_network(images):
    """Three logits without a kink."""
    return jnp.tanh(images.reshape(len(images), -1) @ SMOOTH) * 4.0


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Gray images, bright in one place; some may be missing."""

    count: int = 11
    reverse: bool = False
    missing: tuple[int, ...] = ()
    name: str = "drawn"
    class_names: tuple[str, ...] = ("left", "right", "none")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        number = self.count - 1 - index if self.reverse else index
        if number in self.missing:
            raise InputError(f"image {number} is missing: put it there")
        rng = np.random.default_rng(number)
        image = rng.uniform(0.0, 0.3, (32, 32, 3)).astype(np.float32)
        y, x = rng.integers(0, 24, 2)
        image[y : y + 8, x : x + 8] += 0.6
        return Example(f"image-{number}", image, int(number % 3), None, None)


def ran(network: Any, source: Any, out: Any, **asked: Any) -> Any:
    """A run that has ended, opened."""
    config = (
        asked.pop("config", CONFIG)
        if asked.get("method", "mdm") == "mdm"
        else asked.pop("config", None)
    )
    mdm_jax.run(network, source, out, RunConfig(config=config, **asked))
    return mdm_jax.open_run(out)


def masks_of(run: Any) -> dict[str, np.ndarray]:
    """Both mask vectors of each image, by its id."""
    arrays = [np.asarray(array[...]) for array in run.mask_vectors]
    return {
        id: np.concatenate([array[row].ravel() for array in arrays])
        for row, id in enumerate(run.records["id"].to_pylist())
    }


def same(a: Any, b: Any, within: float = 0.0) -> bool:
    first, second = masks_of(a), masks_of(b)
    return first.keys() == second.keys() and all(
        np.abs(first[id] - second[id]).max() <= within for id in first
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny):
    """The run that others are compared with."""
    return ran(tiny, Drawn(), tmp_path_factory.mktemp("runs") / "whole", chunk=4)


def test_a_row_is_what_explain_gives(whole, tiny):
    source = Drawn()
    examples = [source[i] for i in range(len(source))]
    images = np.stack([example.image for example in examples])
    explained = mdm_jax.explain(
        tiny, images, ids=[example.id for example in examples], config=CONFIG
    )
    for stored, vectors in zip(whole.mask_vectors, explained.mask_vectors):
        np.testing.assert_array_equal(stored[...], vectors)
    records = whole.records.to_pydict()
    assert records["id"] == [example.id for example in examples]
    assert records["row"] == records["item"] == list(range(11))
    assert records["label_name"] == [source.class_names[i % 3] for i in range(11)]
    assert records["target"] == explained.info.target.tolist() == records["prediction"]
    np.testing.assert_allclose(records["activation"], explained.info.activation, rtol=1e-6)
    np.testing.assert_allclose(
        records["term_area"], explained.info.terms["area"], rtol=1e-6
    )
    assert records["forwards"] == (explained.info.forwards + 1).tolist()
    for row in (0, 10):
        # masks of four steps differ little from cell to cell, and are stretched to [0, 1]
        np.testing.assert_allclose(whole.saliency(row), explained.saliency[row], atol=1e-3)


def test_stacked_masks_are_drawn_from_mask_vectors(tiny, tmp_path):
    run = ran(tiny, Drawn(1), tmp_path / "run", config=JOINT)
    image = Drawn(1)[0].image[None]
    explained = mdm_jax.explain(tiny, image, ids=["image-0"], config=JOINT)
    assert run.saliency_maps is None
    np.testing.assert_allclose(run.saliency(0), explained.saliency[0], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"chunk": 1}, {"chunk": 64}, {"workers": 0, "chunk": 3}]
)
def test_chunks_change_nothing(whole, tiny, tmp_path, change):
    assert same(whole, ran(tiny, Drawn(), tmp_path / "run", **change))


def test_the_order_changes_nothing(whole, tiny, tmp_path):
    assert same(whole, ran(tiny, Drawn(reverse=True), tmp_path / "run", chunk=4))


@pytest.mark.slow
def test_slots_change_nothing(whole, tiny, tmp_path):
    assert same(
        whole, ran(tiny, Drawn(), tmp_path / "run", chunk=4, slots=True), within=1e-6
    )


@pytest.mark.slow
def test_the_batch_changes_nothing_but_rounding(tmp_path):
    alone = ran(smooth_network, Drawn(), tmp_path / "1", chunk=4)
    assert same(
        alone,
        ran(smooth_network, Drawn(), tmp_path / "7", chunk=4, micro_batch=7),
        within=1e-4,
    )
    assert same(
        alone,
        ran(smooth_network, Drawn(), tmp_path / "64", chunk=4, micro_batch=64),
        within=1e-4,
    )
    assert same(
        alone,
        ran(
            smooth_network, Drawn(), tmp_path / "slots", chunk=4, micro_batch=4, slots=True
        ),
        within=1e-4,
    )


@pytest.mark.slow
def test_slots_hold_to_convergence(tmp_path):
    """With a rule that ends images at different steps, every image ends as it does alone."""
    objective = (mdm_jax.consistency("absolute"), mdm_jax.area(0.3))
    config = dataclasses.replace(
        JOINT,
        steps=40,
        until_converged=True,
        tolerance=3e-3,
        patience=2,
        objective=objective,
    )
    alone = ran(smooth_network, Drawn(), tmp_path / "alone", config=config)
    slots = ran(smooth_network, Drawn(), tmp_path / "slots", config=config, micro_batch=4)
    assert len(set(alone.records["steps"].to_pylist())) > 1
    assert alone.records["steps"].to_pylist() == slots.records["steps"].to_pylist()
    assert same(alone, slots, within=1e-4)
    job = prepare(smooth_network, Drawn(), RunConfig(config=config, micro_batch=4))
    assert job.uses_slots


def test_slots_compile_once(tmp_path, compilations):
    ran(smooth_network, Drawn(4), tmp_path / "first", micro_batch=4, slots=True)
    with compilations:
        ran(smooth_network, Drawn(11), tmp_path / "second", micro_batch=4, slots=True)
    assert compilations.count == 0


def test_a_run_goes_on(whole, tiny, tmp_path):
    """Stopped after the first chunk, then gone on with: nothing is done twice and nothing
    differs."""

    class Impatient(NullProgress):
        rows = 0

        def advance(self, done, **measures):
            self.rows += 1

        def wants_stop(self):
            return self.rows > 0

    job = prepare(tiny, Drawn(), RunConfig(config=CONFIG, chunk=4))
    store = open_store(tmp_path / "run")
    with pytest.raises(Stopped, match="same command goes on"):
        run_plan(job, store, Impatient())
    assert store.committed() == {0}
    ended = run_plan(job, store, NullProgress())
    assert (ended.before, ended.rows) == (4, 7)
    assert same(whole, mdm_jax.open_run(tmp_path / "run"))
    assert run_plan(job, store, NullProgress()).rows == 0


@pytest.mark.slow
def test_another_run_is_refused_with_the_difference(whole, tiny):
    with pytest.raises(InputError, match=r"settings\.seed 0 -> 3"):
        mdm_jax.run(tiny, Drawn(), whole.place, RunConfig(config=CONFIG, chunk=4, seed=3))
    with pytest.raises(InputError, match=r"settings\.config\.steps 4 -> 5"):
        mdm_jax.run(
            tiny,
            Drawn(),
            whole.place,
            RunConfig(config=dataclasses.replace(CONFIG, steps=5), chunk=4),
        )
    with pytest.raises(InputError, match=r"settings\.model\.weights"):
        mdm_jax.run(
            jax.tree.map(lambda leaf: leaf * 2, tiny),
            Drawn(),
            whole.place,
            RunConfig(config=CONFIG, chunk=4),
        )
    with pytest.raises(InputError, match=r"settings\.data"):
        mdm_jax.run(tiny, Drawn(12), whole.place, RunConfig(config=CONFIG, chunk=4))


@pytest.mark.slow
def test_shares_make_the_whole(whole, tiny, tmp_path):
    for share in ((1, 2), (0, 2)):
        ended = mdm_jax.run(
            tiny, Drawn(), tmp_path / "run", RunConfig(config=CONFIG, chunk=4), share=share
        )
        assert ended.rows == (4 if share[0] else 7)
    assert same(whole, mdm_jax.open_run(tmp_path / "run"))


def test_unreadable_images_are_records(whole, tiny, tmp_path):
    ended = mdm_jax.run(
        tiny, Drawn(missing=(0, 5, 10)), tmp_path / "run", RunConfig(config=CONFIG, chunk=4)
    )
    run = mdm_jax.open_run(tmp_path / "run")
    assert ended.failed == 3
    assert "drawn/000000: image 0 is missing: put it there" in ended.reasons
    records = run.records.to_pydict()
    assert [
        row for row, status in enumerate(records["status"]) if status == "UNREADABLE"
    ] == [
        0,
        5,
        10,
    ]
    assert records["reason"][5] == "image 5 is missing: put it there"
    assert records["target"][5] is None
    assert np.isnan(run.mask_vectors[0][5]).all()
    others = [row for row in range(11) if row not in (0, 5, 10)]
    for stored, expected in zip(run.mask_vectors, whole.mask_vectors):
        np.testing.assert_array_equal(stored[...][others], expected[...][others])


@pytest.mark.slow
def test_an_image_of_nan_outputs_leaves_the_others_alone(whole, tmp_path, tiny):
    def fragile(images):
        return (
            jnp.where(images.max(axis=(1, 2, 3)) > 0.899, jnp.nan, 1.0)[:, None]
            * tiny(images)[0]
        )

    run = ran(fragile, Drawn(), tmp_path / "run", chunk=4)
    statuses = run.records["status"].to_pylist()
    assert 0 < statuses.count("NOT_FINITE") < 11
    assert all(
        reason
        for reason, status in zip(run.records["reason"].to_pylist(), statuses)
        if status == "NOT_FINITE"
    )


@pytest.mark.slow
def test_targets(tiny, tmp_path):
    top = ran(tiny, Drawn(3), tmp_path / "top", targets="top2", chunk=2).records.to_pydict()
    logits = np.asarray(tiny(jnp.stack([Drawn()[i].image for i in range(3)]))[0])
    order = np.argsort(-logits, axis=1)
    assert top["target"] == order[:, :2].ravel().tolist()
    assert top["rank"] == [0, 1] * 3
    assert top["item"] == [0, 0, 1, 1, 2, 2]
    assert top["prediction"] == np.repeat(order[:, 0], 2).tolist()
    given = ran(
        tiny, Drawn(3), tmp_path / "given", targets=np.asarray([2, 0, 1])
    ).records.to_pydict()
    assert given["target"] == [2, 0, 1]
    listed = ran(tiny, Drawn(2), tmp_path / "listed", targets="2,0").records.to_pydict()
    assert listed["target"] == [2, 0, 2, 0]
    label = ran(
        tiny,
        Drawn(3, class_names=("0", "1", "unheard of")),
        tmp_path / "label",
        targets="label",
    )
    assert label.records["label_name"].to_pylist() == ["0", "1", "unheard of"]
    assert label.records["target"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize(
    "asked",
    ["top", "top0", "best", "3;4", "-1", "1,1", [1, 2], np.zeros(11), np.full(11, -2)],
)
def test_targets_that_cannot_be(asked):
    with pytest.raises(InputError, match="targets are"):
        parse_targets(asked, 11)


@pytest.mark.slow
def test_other_methods_keep_their_maps(tiny, tmp_path):
    source = Drawn(3)
    run = ran(tiny, source, tmp_path / "run", method="input_x_gradient")
    explained = mdm_jax.explain(
        tiny, np.stack([source[i].image for i in range(3)]), method="input_x_gradient"
    )
    assert run.mask_vectors == ()
    stored = run.saliency_maps[...]
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored, explained.saliency, atol=1e-3)
    np.testing.assert_allclose(run.saliency(2), explained.saliency[2], atol=1e-3)


def test_a_function_of_ours_is_known_by_its_name_and_defaults(tiny):
    named, given = (
        RunConfig(method=method).resolve() for method in ("mdm", mdm_jax.mdm.explain)
    )
    assert given == named
    assert given.config == PRESETS["fast"]
    assert (
        RunConfig(method=mdm_jax.mdm.explain, config="best").resolve().config
        == PRESETS["best"]
    )


@pytest.mark.slow
def test_a_vector_node_and_kept_maps(tiny, tmp_path):
    config = dataclasses.replace(
        CONFIG, objective=(mdm_jax.consistency("squared"), mdm_jax.area(1.0))
    )
    run = ran(tiny, Drawn(2), tmp_path / "run", node="logits", saliency=True, config=config)
    assert len(run.records["activation"][0].as_py()) == 3
    assert run.saliency_maps.shape == (2, 32, 32)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"chunk": 0}, "chunk is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"micro_batch": -1}, "micro_batch is -1"),
        ({"workers": -1}, "workers is -1"),
        ({"method": "mdn"}, "unknown method"),
        ({"method": "gradient", "slots": True}, "slots are for methods that converge"),
        ({"targets": "9"}, "the network has 3 classes"),
        ({"targets": "top4"}, "the network has 3 classes"),
        ({"seed": -1}, "the seed is -1"),
    ],
)
def test_what_cannot_be_is_one_sentence(tiny, tmp_path, asked, sentence):
    with pytest.raises(InputError, match=sentence):
        mdm_jax.run(tiny, Drawn(), tmp_path / "run", RunConfig(**asked))
    assert not (tmp_path / "run").exists()


def test_no_labels_in_common_is_one_sentence(tiny, tmp_path):
    with pytest.raises(InputError, match="none of the classes"):
        mdm_jax.run(
            tiny,
            Drawn(class_names=("a", "b", "c", "d")),
            tmp_path / "run",
            RunConfig(targets="label"),
        )


@pytest.mark.slow
def test_out_of_memory_halves_the_batch(whole, tiny, tmp_path, monkeypatch):
    from mdm_jax.runs import compiled

    real = compiled.explain_rows

    def limited(recipe, arrays, key, questions):
        if len(questions.target) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return real(recipe, arrays, key, questions)

    monkeypatch.setattr(compiled, "explain_rows", limited)
    with pytest.warns(RuntimeWarning, match="going on with 2 images"):
        run = ran(tiny, Drawn(), tmp_path / "run", chunk=4, micro_batch=4)
    assert same(whole, run, within=1e-3)
    assert run.records["row"].to_pylist() == list(range(11))


@pytest.mark.parametrize("text", ["2/2", "-1/2", "1", "a/b", "0/0", "1/2/3"])
def test_shards_that_cannot_be(text):
    with pytest.raises(InputError, match=r"the shard is .*: give i/n"):
        distributed.parse_share(text)
    assert distributed.parse_share("1/2") == (1, 2)


def test_who_waits_for_others_says_so(monkeypatch):
    """As `mdm run --coordinator` does; that it obeys signals is tried with processes."""
    monkeypatch.setattr(distributed, "SILENT_SECONDS", 0.05)
    waits = lambda *_, **__: time.sleep(0.4)  # noqa: E731
    monkeypatch.setattr(distributed.jax.distributed, "initialize", waits)
    monkeypatch.setattr(distributed.jax.distributed, "shutdown", lambda: None)
    with pytest.warns(
        UserWarning, match="waiting for all 2 processes to start, at most 300 s"
    ):
        assert distributed.join_cluster("host:1", (0, 2)) == (0, 1)
    waits = lambda *_, **__: None  # noqa: E731
    monkeypatch.setattr(distributed.jax.distributed, "initialize", waits)
    assert distributed.join_cluster("host:1", (0, 2)) == (0, 1)


WAITS = """
from mdm_jax.cli.signals import ended_when_asked
from mdm_jax.runs import distributed
distributed.SILENT_SECONDS = 0.1
with ended_when_asked():
    distributed.join_cluster("127.0.0.1:{port}", ({share}, 2))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("share", [0, 1])
def test_who_waits_for_others_obeys(share):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS.format(port=port, share=share)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "waiting for all 2 processes" in process.stderr.readline()
    start = time.monotonic()
    process.terminate()
    assert process.wait(30) in (1, 130)
    assert time.monotonic() - start < 10
    process.stderr.close()


@pytest.mark.slow
def test_a_run_is_evaluated(whole, tiny, tmp_path):
    """A run is read like other maps: its rows with a map, by id."""
    mdm_jax.run(
        tiny, Drawn(missing=(3,)), tmp_path / "run", RunConfig(config=CONFIG, chunk=4)
    )
    found = saved_maps.read(tmp_path / "run")
    assert found.ids == tuple(f"image-{i}" for i in range(11) if i != 3)
    np.testing.assert_array_equal(found.saliency[3], whole.saliency(4))
    assert found.targets.tolist() == [
        target for i, target in enumerate(whole.records["target"].to_pylist()) if i != 3
    ]
    mdm_jax.run(tiny, Drawn(2), tmp_path / "top", RunConfig(config=CONFIG, targets="top2"))
    with pytest.raises(InputError, match="2 targets of each image"):
        saved_maps.read(tmp_path / "top")


@pytest.mark.slow
def test_other_code_is_another_run(tmp_path):
    """Weights, names and lengths are the same; the program or the pixels are not."""

    def asked(sign=1.0, share=0.1, brightness=1.0):
        term = mdm_jax.term(
            lambda view: jnp.abs(view.mask.mean() - share), 1.0, name="share"
        )
        config = dataclasses.replace(
            CONFIG, objective=(mdm_jax.consistency("absolute"), term)
        )
        node = lambda outputs, target: sign * outputs[target]  # noqa: E731
        source = Drawn(3)
        fit = lambda picture: np.asarray(picture, np.float32) / 255 * brightness  # noqa: E731
        return (
            smooth_network,
            source,
            tmp_path / "run",
            RunConfig(config=config, node=node),
            fit,
        )

    def again(**changed):
        *run, fit = asked(**changed)
        return mdm_jax.run(*run, fit=fit)

    assert again().rows == 3
    assert again().rows == 0
    for changed in ({"sign": -1.0}, {"share": 0.9}):
        with pytest.raises(InputError, match=r"settings\.program"):
            again(**changed)
    with pytest.raises(InputError, match=r"settings\.first_image"):
        again(brightness=0.5)


@pytest.mark.slow
def test_rows_without_a_result_have_no_map(tmp_path, tiny):
    for saliency in (False, True):
        run = ran(
            tiny,
            Drawn(3, missing=(1,)),
            tmp_path / str(saliency),
            saliency=saliency,
            config=JOINT,
        )
        assert (run.saliency_maps is not None) == saliency
        with pytest.raises(
            InputError,
            match=r"row 1 .* has no saliency map \(UNREADABLE: image 1 is missing",
        ):
            run.saliency(1)
        assert np.isnan(run.saliency_of([0, 1])[1]).all()
        assert np.isfinite(run.saliency_of([0, 1])[0]).all()


def test_a_folder_of_other_files_is_left_alone(tmp_path, tiny):
    for name in ("run.json", "zarr.json", "records/data.parquet"):
        out = tmp_path / name.replace("/", "-")
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("mine")
        (out / "Cargo.lock.__lock").write_text("mine")
        with pytest.raises(InputError, match="holds other files"):
            mdm_jax.run(tiny, Drawn(2), out, RunConfig(config=CONFIG))
        assert (out / name).read_text() == (out / "Cargo.lock.__lock").read_text() == "mine"


@pytest.mark.slow
def test_a_network_without_logits_needs_targets(tmp_path):
    def named(images):
        return {"logits": smooth_network(images)}

    node = lambda outputs, target: outputs["logits"][target]  # noqa: E731
    with pytest.raises(InputError, match="no logits, so it has no first choice"):
        mdm_jax.run(named, Drawn(2), tmp_path / "run", RunConfig(config=CONFIG, node=node))
    run = ran(named, Drawn(2), tmp_path / "run", node=node, targets="1")
    assert run.records["target"].to_pylist() == [1, 1]
    assert run.records["prediction"].to_pylist() == [-1, -1]


@pytest.mark.slow
def test_dropout_is_no_obstacle(tmp_path):
    class Dropping(nnx.Module):
        def __init__(self):
            self.linear, self.dropout = (
                nnx.Linear(3072, 3, rngs=nnx.Rngs(0)),
                nnx.Dropout(0.5, rngs=nnx.Rngs(0)),
            )

        def __call__(self, images):
            return self.linear(self.dropout(images.reshape(len(images), -1)))

    assert (
        ran(Dropping(), Drawn(2), tmp_path / "run").records["status"].to_pylist()
        == ["OUT_OF_STEPS"] * 2
    )


def test_a_folder_of_unreadable_images_is_not_read_at_once(tmp_path, tiny, monkeypatch):
    from mdm_jax.runs import batching

    monkeypatch.setattr(batching, "MAX_FINISHED", 4)
    ended = mdm_jax.run(
        tiny,
        Drawn(11, missing=tuple(range(1, 11))),
        tmp_path / "run",
        RunConfig(config=CONFIG, chunk=2),
    )
    assert ended.statuses == {"UNREADABLE": 10, "OUT_OF_STEPS": 1}
