"""Training of prototype networks: losses by hand, stages as data, what each stage moves, and exact
resume in every stage."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
import synthetic_folders
from flax import nnx
from jax.test_util import check_grads

from mdm_jax import InputError, config_files
from mdm_jax.cli.main import main
from mdm_jax.models import weights
from mdm_jax.models.pretrained import load_model
from mdm_jax.progress import NullProgress, Stopped
from mdm_jax.storage import checkpoints
from mdm_jax.training import run_folder as run_folder
from mdm_jax.training import stages
from mdm_jax.training.classification import binary_cross_entropy, hits, mean_auc
from mdm_jax.training.config import TrainConfig
from mdm_jax.training.job import open_job
from mdm_jax.training.loop import train
from mdm_jax.training.prototypes import losses as losses
from mdm_jax.training.prototypes import record as records
from mdm_jax.training.prototypes.config import PrototypeConfig
from mdm_jax.training.prototypes.optimizers import highest_rate
from mdm_jax.training.prototypes.ownership import own_prototypes
from mdm_jax.training.prototypes.steps import prototype_program
from mdm_jax.training.stages import JOINT, LAST_LAYER, PRUNE, PUSH, WARM
from mdm_jax.training.steps import leaves

pytestmark = [pytest.mark.usefixtures("compiled_once"), pytest.mark.slow]

BACKBONE = {"backbone_arguments": {"widths": [4, 8], "depths": [1, 1]}}
STAGES = {
    "warm": 1,
    "push_from": 2,
    "push_every": 1,
    "last_layer": 2,
    "decay_every": 1,
    "decay": 0.5,
}
RATES = {
    "features_rate": 0.02,
    "add_on_rate": 0.02,
    "prototypes_rate": 0.02,
    "last_layer_rate": 0.05,
}


def settings_of(photos, out, architecture="protopnet", **prototypes):
    return {
        "out": str(out),
        "epochs": 3,
        "checkpoint_every": 50,
        "data": {"source": f"folder:{photos}", "evaluate": "val", "batch": 8},
        "model": {
            "architecture": architecture,
            "size": [16, 16],
            "arguments": {"prototypes_per_class": 2, "width": 6, **BACKBONE},
        },
        "prototypes": STAGES | prototypes,
        "augment": {"flip": True},
    }


# losses


def test_cluster_and_separation_by_hand():
    distances = jnp.asarray([[3.0, 1.0, 0.5, 2.0], [4.0, 5.0, 0.25, 7.0]])
    own = own_prototypes(jnp.asarray([0, 1]), (0, 0, 1, 2))
    np.testing.assert_array_equal(
        own, [[True, True, False, False], [False, False, True, False]]
    )
    np.testing.assert_allclose(losses.cluster_cost(distances, own), [1.0, 0.25])
    np.testing.assert_allclose(losses.separation_cost(distances, own), [0.5, 4.0])
    several = own_prototypes(jnp.asarray([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), (0, 0, 1, 2))
    np.testing.assert_array_equal(several, [[True, True, False, True], [False] * 4])
    # An image without a class has no own prototype, and is not drawn anywhere.
    np.testing.assert_allclose(losses.cluster_cost(distances, several), [1.0, 0.0])
    np.testing.assert_allclose(losses.separation_cost(distances, several), [0.5, 0.25])
    for cost in (losses.cluster_cost, losses.separation_cost):
        check_grads(
            lambda d, cost=cost: cost(jnp.asarray(d), several).sum(),
            (distances,),
            1,
            ["rev"],
            eps=1e-3,
        )
        assert np.isfinite(
            jax.grad(lambda d, cost=cost: cost(d, several).sum())(distances)
        ).all()


def test_on_similarities_the_gradient_is_that_of_the_published_terms():
    similarities = jnp.asarray([[0.3, -0.1, 0.8], [0.9, 0.2, 0.4]])
    own = own_prototypes(jnp.asarray([0, 1]), (0, 0, 1))

    def ours(s):
        d = losses.compared_distances({"similarities": s, "distances": None})
        return jnp.mean(
            0.8 * losses.cluster_cost(d, own) - 0.08 * losses.separation_cost(d, own)
        )

    def published(s):
        mine, others = (
            jnp.where(own, s, -jnp.inf).max(-1),
            jnp.where(own, -jnp.inf, s).max(-1),
        )
        return jnp.mean(-0.8 * mine + 0.08 * others)

    np.testing.assert_allclose(
        jax.grad(ours)(similarities), jax.grad(published)(similarities), rtol=1e-6
    )
    out = {"distance_maps": 0, "distances": similarities, "similarities": None}
    assert losses.compared_distances(out) is similarities


def test_l1_is_of_the_weights_to_other_classes():
    kernel = jnp.asarray([[1.0, -0.5, 0.25], [2.0, -3.0, 0.5]])
    assert float(losses.l1_cost(kernel, (0, 1))) == 0.75 + 2.5
    np.testing.assert_array_equal(
        jax.grad(losses.l1_cost)(kernel, (0, 1)), [[0, -1, 1], [1, 0, 1]]
    )


def test_binary_cross_entropy_by_hand():
    logits, labels = (
        jnp.asarray([[2.0, -1.0], [0.5, 0.0], [-3.0, 1.0]]),
        jnp.asarray([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]),
    )
    p = 1 / (1 + np.exp(-np.asarray(logits)))
    each = -np.where(labels > 0, np.log(p), np.log(1 - p))
    valid = jnp.asarray([True, True, False])
    np.testing.assert_allclose(
        binary_cross_entropy(logits, labels, valid), each.mean(1), rtol=1e-5
    )
    # Class 0: one of two valid images has it, each weighs 1. Class 1: none of them has it, which
    # stays as it is.
    np.testing.assert_allclose(
        binary_cross_entropy(logits, labels, valid, balanced=True)[:2],
        each[:2].mean(1),
        rtol=1e-5,
    )
    balanced = binary_cross_entropy(logits, labels, jnp.ones(3, bool), balanced=True)
    weights = np.asarray([[1.5, 0.75], [0.75, 0.75], [0.75, 1.5]])
    np.testing.assert_allclose(balanced, (each * weights).mean(1), rtol=1e-5)
    np.testing.assert_allclose(hits(logits, labels), [1.0, 0.5, 1.0])


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels = (
        rng.integers(0, 5, (40, 4)).astype(np.float32),
        (rng.uniform(size=(40, 4)) < 0.3).astype(np.float32),
    )
    labels[:, 3] = 0.0  # a class that none has is left out
    expected = np.mean(
        [sklearn.metrics.roc_auc_score(labels[:, c], logits[:, c]) for c in range(3)]
    )
    assert mean_auc(logits, labels) == pytest.approx(expected)
    assert mean_auc(logits[:, 3:], labels[:, 3:]) is None


def test_transformations_move_images_and_maps_alike():
    rng = np.random.default_rng(0)
    coarse = jnp.asarray(rng.uniform(0, 1, (2, 4, 6, 3)), jnp.float32)
    still = losses.transform(coarse, jnp.asarray(0.0), jnp.asarray(1.0))
    np.testing.assert_allclose(still, coarse, atol=1e-6)
    quarter = losses.transform(coarse[:, :, 1:5], jnp.asarray(np.pi / 2), jnp.asarray(1.0))
    np.testing.assert_allclose(quarter, np.rot90(coarse[:, :, 1:5], 1, (1, 2)), atol=1e-5)
    # A blob that is moved and then pooled lies where it lies when it is pooled and then moved.
    y, x = np.mgrid[:48, :48]
    blob = jnp.asarray(np.exp(-((y - 18) ** 2 + (x - 30) ** 2) / 60), jnp.float32)[
        None, ..., None
    ]
    pooled = lambda image: image.reshape(1, 12, 4, 12, 4, 1).mean((2, 4))  # noqa: E731
    angle, scale = jnp.asarray(0.3), jnp.asarray(1.3)
    np.testing.assert_allclose(
        losses.transform(pooled(blob), angle, scale),
        pooled(losses.transform(blob, angle, scale)),
        atol=0.1,
    )
    assert (
        float(
            losses.transformation_cost(
                losses.transform(coarse, angle, scale), coarse, angle, scale
            ).max()
        )
        == 0.0
    )
    drawn = [losses.draw_transformation(jax.random.key(seed)) for seed in range(50)]
    angles, scales = np.asarray(drawn).T
    assert np.abs(np.rad2deg(angles)).max() <= 20 < 2 * np.abs(np.rad2deg(angles)).max()
    assert 0.6 <= scales.min() < 0.7 < 1.4 < scales.max() <= 1.5


def test_length_of_occurrence_maps():
    maps = jnp.zeros((1, 2, 2, 2)).at[0, 0, 0, 0].set(3.0).at[0, 1, 1, 0].set(4.0)
    assert losses.occurrence_norm(maps).tolist() == [2.5]
    assert np.isfinite(
        jax.grad(lambda maps: losses.occurrence_norm(maps).sum())(maps)
    ).all()  # one map is empty


# stages


def kinds(timeline):
    return [(stage.kind, stage.stop - stage.start) for stage in timeline.stages]


def test_stages_are_known_from_the_step():
    config = PrototypeConfig(
        warm=2, push_from=3, push_every=2, last_layer=4, prune=True, prune_last_layer=7
    )
    timeline = stages.prototype_timeline(config, epochs=6, steps_per_epoch=10)
    assert kinds(timeline) == [
        *(
            (WARM, 20),
            (JOINT, 10),
            (PUSH, 1),
            (LAST_LAYER, 4),
            (JOINT, 20),
            (PUSH, 1),
            (LAST_LAYER, 4),
        ),
        *((JOINT, 10), (PUSH, 1), (LAST_LAYER, 4), (PRUNE, 1), (LAST_LAYER, 7)),
    ]
    assert [stage.start for stage in timeline.stages[1:]] == [
        stage.stop for stage in timeline.stages[:-1]
    ]
    assert timeline.steps == 83
    batches = [
        timeline.at(step).batch(step)
        for step in range(83)
        if timeline.at(step).kind in stages.BATCHED
    ]
    assert batches == list(range(60))
    ends = [step for step in range(84) if timeline.ends_pass(step)]
    assert ends == [10, 20, 30, 31, 35, 45, 55, 56, 60, 70, 71, 75, 76, 83]
    assert [timeline.at(step - 1).passes_after(step) for step in ends] == [
        1,
        2,
        3,
        3,
        3,
        4,
        5,
        5,
        5,
        6,
        6,
        6,
        6,
        6,
    ]


def test_stages_that_are_left_out():
    assert kinds(
        stages.prototype_timeline(PrototypeConfig(warm=5, last_layer=0), 3, 10)
    ) == [
        (WARM, 30),
        (PUSH, 1),
    ]
    assert kinds(
        stages.prototype_timeline(PrototypeConfig(warm=0, push_from=9), 2, 10)
    ) == [
        (JOINT, 20),
        (PUSH, 1),
        (LAST_LAYER, 20),
    ]
    assert stages.push_passes(PrototypeConfig(), 31) == [10, 20, 30, 31]
    assert stages.push_passes(PrototypeConfig(), 30) == [10, 20, 30]
    plain = stages.plain_timeline(3, 6)
    assert [plain.at(step).batch(step) for step in range(18)] == list(range(18))
    assert [step for step in range(19) if plain.ends_pass(step)] == [6, 12, 18]


def test_rates_fall_by_steps_in_the_joint_stage():
    config = PrototypeConfig(
        warm=1, push_from=3, push_every=3, last_layer=1, decay_every=2, decay=0.1
    )
    timeline = stages.prototype_timeline(config, epochs=6, steps_per_epoch=10)
    shown = [
        highest_rate(config, timeline.at(step), step) for step in range(timeline.steps)
    ]
    expected = [3e-3] * 30 + [0.0, 1e-4] + [3e-4] * 20 + [3e-5] * 10 + [0.0, 1e-4]
    np.testing.assert_allclose(shown, expected, rtol=1e-6)


# steps


def changed(before, after):
    """The first part of the name of everything that differs, and of everything that does not."""
    same = {name: np.array_equal(before[name], after[name]) for name in before}
    return {n.split(".")[0] for n, s in same.items() if not s}, {
        n.split(".")[0] for n, s in same.items() if s
    }


@pytest.fixture(scope="module")
def steps(photos, tmp_path_factory):
    """The job of an XProtoNet, its first network and its compiled steps."""
    settings = settings_of(
        photos,
        tmp_path_factory.mktemp("steps"),
        "xprotonet",
        transformation=0.0,
        occurrence_norm=0.01,
    )
    job = open_job(config_files.build(TrainConfig, settings))
    module = job.construct()
    return job, module, prototype_program(job.config, module, job.steps_per_epoch)


def test_each_stage_moves_its_part_alone(steps):
    _, module, compiled = steps
    rng = np.random.default_rng(0)
    batch = (
        rng.uniform(0, 1, (8, 16, 16, 3)).astype(np.float32),
        rng.integers(0, 3, 8).astype(np.int32),
        np.ones(8, bool),
    )
    similarities = rng.uniform(-1, 1, (24, 6)).astype(np.float32)
    passing = (
        similarities,
        1 - similarities,
        rng.integers(0, 3, 24).astype(np.int32),
        np.ones(24, bool),
    )
    state = compiled.initial(module)
    moved = {}
    for kind, given in ((WARM, batch), (JOINT, batch), (LAST_LAYER, passing)):
        before = {
            name: np.array(leaf)
            for name, leaf in leaves((state.params, state.stats)).items()
        }
        state, loss = compiled.stages[kind](state, *given)
        after = leaves((state.params, state.stats))
        assert np.isfinite(loss)
        moved[kind] = {
            name.split(".", 1)[1].split(".")[0]
            for name in before
            if not np.array_equal(before[name], after[name])
        }
        rests = {
            name.split(".", 1)[0]
            for name in before
            if np.array_equal(before[name], after[name])
        }
        assert ("1" in rests) == (kind != JOINT)  # batch statistics
    assert moved[WARM] == {"add_on", "occurrence", "prototypes"}
    assert moved[JOINT] == {"backbone", "add_on", "occurrence", "prototypes"}
    assert moved[LAST_LAYER] == {"last_layer"}
    assert int(state.step) == 3


def test_a_step_is_adam_on_the_weighed_sum_of_the_terms(steps):
    """The first step of Adam moves every weight by the rate against the gradient's sign; the
    gradient is that of the whole."""
    job, module, compiled = steps
    rng = np.random.default_rng(0)
    images, labels = (
        rng.uniform(0, 1, (8, 16, 16, 3)).astype(np.float32),
        rng.integers(0, 3, 8).astype(np.int32),
    )
    valid = np.arange(8) < 6
    inference = nnx.view(module, use_running_average=True, raise_if_not_found=False)
    graphdef, params, rest = nnx.split(inference, nnx.Param, ...)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        network = nnx.merge(graphdef, params, rest, copy=True)
        logits, out = network((jnp.asarray(images[:6]) - 0.5) / 0.25)
        own = labels[:6, None] == np.asarray(network.prototype_classes)
        chosen = jax.nn.log_softmax(logits)[jnp.arange(6), labels[:6]]
        mine = jnp.where(own, out["similarities"], -9).max(-1)
        others = jnp.where(own, -9, out["similarities"]).max(-1)
        away = jnp.abs(network.last_layer.kernel[...]).sum() - 6.0  # six own weights of 1
        length = jnp.sqrt((out["occurrence_maps"] ** 2).sum((1, 2))).mean(-1)
        return (
            jnp.mean(-chosen + 0.8 * (1 - mine) - 0.08 * (1 - others) + 0.01 * length)
            + 1e-4 * away
        )

    expected, gradient = loss(params)
    state = compiled.initial(module)
    state, found = compiled.stages[WARM](state, images, labels, valid)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    before, after = params["prototypes"][...], state.params["prototypes"][...]
    np.testing.assert_allclose(
        after - before, -3e-3 * np.sign(gradient["prototypes"][...]), rtol=1e-2, atol=1e-6
    )
    assert float(state.sums.items) == 6
    total = sum(
        losses.term_weights(job.config.prototypes)[name] * float(term)
        for name, term in state.sums.terms.items()
    )
    assert total / 6 == pytest.approx(float(expected), rel=1e-4)


# whole trainings


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    pruning = {"prune": True, "prune_last_layer": 3, "prune_fewer": 6}
    settings = settings_of(
        photos, tmp_path_factory.mktemp("whole") / "run", **pruning, **RATES
    )
    return settings, train(config_files.build(TrainConfig, settings))


def weights_of(folder):
    return (folder / "model.safetensors").read_bytes()


SAME = (
    "epoch",
    "stage",
    "step",
    "train_loss",
    "train_accuracy",
    "train_cluster",
    "eval_loss",
    "eval_accuracy",
    "learning_rate",
)


def assert_same(ours, theirs):
    assert weights_of(ours.run.folder) == weights_of(theirs.run.folder)
    for name in ("prototypes.json", "config.json"):
        assert (ours.run.folder / name).read_text() == (
            theirs.run.folder / name
        ).read_text()
    assert [[line[key] for key in SAME] for line in ours.metrics] == [
        [line[key] for key in SAME] for line in theirs.metrics
    ]


def test_settings_that_change_before_the_first_checkpoint_are_told(photos, tmp_path):
    for count in (2, 3):
        settings = settings_of(photos, tmp_path / "run")
        settings["model"]["arguments"]["prototypes_per_class"] = count
        config = config_files.build(TrainConfig, settings)
        job = open_job(config)
        with run_folder.open_training_folder(tmp_path / "run") as run:
            run_folder.begin_training(run, config, job.source, job.held_out)
    for file, table in (
        ("train.json", lambda told: told["model"]["arguments"]),
        ("config.json", lambda told: told["model_args"]),
    ):
        assert (
            table(json.loads((tmp_path / "run" / file).read_text()))["prototypes_per_class"]
            == 3
        )


def test_a_training_goes_through_all_stages(undisturbed):
    settings, trained = undisturbed
    told = [(line["stage"], line["epoch"], line["step"]) for line in trained.metrics]
    assert told == [
        *((WARM, 1, 6), (JOINT, 2, 12), (PUSH, 2, 13), (LAST_LAYER, 2, 15)),
        *(
            (JOINT, 3, 21),
            (PUSH, 3, 22),
            (LAST_LAYER, 3, 24),
            (PRUNE, 3, 25),
            (LAST_LAYER, 3, 28),
        ),
    ]
    assert trained.metrics[-1]["eval_loss"] < 0.5 * trained.metrics[0]["eval_loss"], (
        trained.metrics
    )
    pushes = [line for line in trained.metrics if line["stage"] in (PUSH, PRUNE)]
    assert {line["train_loss"] for line in pushes} == {None}
    terms = {"classification": 1.0, "cluster": 0.8, "separation": -0.08, "l1": 1e-4}
    for line in trained.metrics:
        if line["train_loss"] is not None:
            total = sum(weight * line[f"train_{name}"] for name, weight in terms.items())
            assert line["train_loss"] == pytest.approx(total, rel=1e-4)
    assert [
        line["learning_rate"] for line in trained.metrics if line["stage"] == JOINT
    ] == [
        0.02,
        0.01,
    ]
    again = train(config_files.build(TrainConfig, settings))
    assert (again.was_done, again.metrics) == (True, trained.metrics)


def test_the_pruned_network_loads_with_its_record(undisturbed):
    _, trained = undisturbed
    classifier = load_model(trained.run.folder)
    classes, record = classifier.network.prototype_classes, records.read(trained.run.folder)
    assert set(classes) == {0, 1, 2}
    assert len(classes) < 6
    assert [each.class_index for each in record.pushed] == list(classes)
    assert [each.label for each in record.pushed] == list(classes)
    assert (record.split, record.step) == ("train", 22)
    for each in record.pushed:
        assert each.id.split("/")[1] == classifier.class_names[each.class_index]
    assert weights.read(trained.run.weights)["last_layer.weight"].shape == (3, len(classes))


class StopsIn(NullProgress):
    """Asks to stop at the `count`-th question in a stage; * is on the way through the images."""

    def __init__(self, stage, count):
        self.stage, self.left, self.now = stage, count, ""

    def describe(self, doing):
        self.now = doing.partition(",")[0] + "*" * ("image" in doing)

    def wants_stop(self):
        self.left -= self.now == self.stage
        return self.left <= 0


STOPS = ((WARM, 3), ("push*", 3), (JOINT, 3), ("prune*", 3), (LAST_LAYER, 2))


def test_stopped_in_every_stage_and_gone_on_gives_the_same(undisturbed, tmp_path):
    settings, whole = undisturbed
    config = replace(
        config_files.build(TrainConfig, settings), out=str(tmp_path / "stopped")
    )
    steps = []
    for stage, count in STOPS:
        with pytest.raises(Stopped, match=r"stopped at step \d+ of 28, which is saved"):
            train(config, StopsIn(stage, count))
        assert not (tmp_path / "stopped" / "model.safetensors").exists()
        steps.append(checkpoints.latest(tmp_path / "stopped" / "checkpoints"))
    assert steps == [3, 12, 18, 24, 27]
    assert_same(train(config), whole)


KILLED = """
import json, os, signal, sys
from mdm_jax import config_files
from mdm_jax.training import loop
from mdm_jax.training.config import TrainConfig

settings, place = json.load(sys.stdin)

class Mortal(loop.NullProgress):
    def describe(self, doing):
        if doing == place:
            os.kill(os.getpid(), signal.SIGKILL)

loop.train(config_files.build(TrainConfig, settings), Mortal())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_in_a_push_and_ended_after_it_gives_the_same(
    undisturbed, compiled_once, tmp_path, monkeypatch
):
    settings, whole = undisturbed
    settings, saved = (
        settings | {"out": str(tmp_path / "run")},
        tmp_path / "run" / "checkpoints",
    )
    cached = {
        "JAX_COMPILATION_CACHE_DIR": compiled_once,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment = os.environ | cached
    text = json.dumps([settings, "push, image 16/48"])
    ended = subprocess.run(
        [sys.executable, "-c", KILLED],
        input=text,
        text=True,
        env=environment,
        capture_output=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert checkpoints.latest(saved) == 12

    def full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(records, "write", full)
        with pytest.raises(OSError, match="no space"):
            train(config_files.build(TrainConfig, settings))
    assert checkpoints.latest(saved) == 13  # pushed, and the record not written
    assert not (tmp_path / "run" / records.FILE).exists()
    assert_same(train(config_files.build(TrainConfig, settings)), whole)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A plain classifier that has learned several classes."""
    root = tmp_path_factory.mktemp("plain")
    folder = synthetic_folders.chestxray14(root / "nih")
    settings = {
        "out": str(root / "run"),
        "epochs": 1,
        "data": {"source": f"chestxray14:{folder}", "batch": 4},
    }
    settings["model"] = {"size": [16, 16], "arguments": BACKBONE["backbone_arguments"]}
    return train(config_files.build(TrainConfig, settings))


def test_plain_classifiers_learn_several_classes_too(plain):
    (line,) = plain.metrics
    assert 0 <= line["eval_auc"] <= 1
    assert 0.3 < line["train_loss"] < 2


@pytest.fixture(scope="module")
def begun(photos, plain, tmp_path_factory):
    """A short training on a plain classifier's backbone, measured on the training images."""
    settings = settings_of(
        photos, tmp_path_factory.mktemp("begun") / "run", last_layer=1, last_layer_rate=1e-6
    )
    settings["epochs"], settings["data"]["evaluate"] = 1, "train"
    settings["model"]["start_from"] = str(plain.run.folder)
    return settings, train(config_files.build(TrainConfig, settings))


def test_the_last_layer_learns_on_what_the_network_says(begun):
    """After the last stage the network's own loss on the training images is the one that the stage
    went on from."""
    last = begun[1].metrics[-1]
    assert last["stage"] == LAST_LAYER
    assert last["train_classification"] == pytest.approx(last["eval_loss"], rel=1e-3)
    assert last["train_accuracy"] == pytest.approx(last["eval_accuracy"], abs=1e-6)


# where a training starts from, and what a person is told


def test_a_plain_classifier_becomes_the_backbone(plain, begun, tmp_path):
    settings, trained = begun
    below, ours = weights.read(plain.run.weights), weights.read(trained.run.weights)
    shared = {
        name.removeprefix("backbone."): array
        for name, array in ours.items()
        if name.startswith("backbone.")
    }
    assert shared.keys() == {name for name in below if not name.startswith("fc.")}
    assert all(
        np.array_equal(below[name], array) for name, array in shared.items()
    )  # the one pass is warm
    arguments = settings["model"]["arguments"] | {
        "backbone_arguments": {"widths": [4, 6], "depths": [1, 1]}
    }
    other = settings | {
        "model": settings["model"] | {"arguments": arguments},
        "out": str(tmp_path / "other"),
    }
    with pytest.raises(InputError, match=r"weight 'backbone\.layer2.* has shape"):
        train(config_files.build(TrainConfig, other))


def test_an_embedded_network_may_be_named():
    path = Path(__file__).parents[2] / "experiments" / "configs" / "digits_protopnet.toml"
    from mdm_jax.training.job import first_network

    job = open_job(config_files.load(TrainConfig, path))
    started, plain = (
        weights.entries(first_network(job)),
        weights.entries(load_model("resnet", fold=False).network),
    )
    for name in ("conv1.weight", "layer4.0.bn2.running_var"):
        np.testing.assert_array_equal(started[f"backbone.{name}"], plain[name])


@pytest.mark.parametrize(
    "path",
    sorted(
        set(synthetic_folders.CONFIGS.glob("*.toml"))
        # those of sweeps and of the win matrix have tests of their own
        - set(synthetic_folders.CONFIGS.glob("sweep_*"))
        - set(synthetic_folders.CONFIGS.glob("win_matrix*"))
    ),
    ids=lambda path: path.stem,
)
def test_every_config_of_the_experiments_is_one(path):
    assert config_files.load(TrainConfig, path).out


BAD = {
    "[prototypes]\nwarm = 2": (
        "the setting prototypes.warm has no meaning for a resnet: leave out the table [prototypes]"
    ),
    "[model]\narchitecture = 'protopnet'\n[optimizer]\nclip = 1.0": (
        "the setting optimizer.clip has no meaning for a protopnet"
    ),
    "[model]\narchitecture = 'protopnet'\n[prototypes]\nwarms = 1": (
        "unknown setting 'prototypes.warms': did you mean 'warm'?"
    ),
    "[model]\narchitecture = 'protopnet'\n[prototypes]\npush_every = 0": (
        "prototypes.push_every is 0: give a whole"
    ),
    "[model]\narchitecture = 'protopnet'\n[prototypes]\nl1 = -1": (
        "prototypes.l1 is -1.0: give a number from 0"
    ),
    "[model]\narchitecture = 'protopnet'\n[prototypes]\nprune_fewer = 9": (
        "prototypes.prune_fewer is 9, more than the 6 images"
    ),
    "[model]\narchitecture = 'protopnet'\n[model.arguments]\nbackbone = 'resnets'": (
        "unknown architecture 'resnets'"
    ),
    "[model]\narchitecture = 'protopnet'\n[model.arguments]\nprototypes_per_class = 0": (
        "prototypes_per_class is 0"
    ),
    "[model]\narchitecture = 'xprotonet'\n[model.arguments]\noccurrence = 'ab'": (
        "unknown occurrence 'ab': did you mean 'abs'?"
    ),
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_prototype_config_is_one_sentence(text, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text(text)
    assert main(["train", "bad.toml"]) == 2
    out, err = capsys.readouterr()
    assert BAD[text] in err
    assert (out, err.count("\n"), err[:5]) == ("", 1, "mdm: ")
