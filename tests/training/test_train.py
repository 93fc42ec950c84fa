"""Training: steps against closed forms and plain Flax, exact resume, a run that is killed, and what
a person is told."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import COLORS
from flax import nnx

from mdm_jax import InputError, config_files
from mdm_jax.cli.console import Result, Terminal
from mdm_jax.cli.main import main
from mdm_jax.cli.progress_bar import TrainingBar, stoppable
from mdm_jax.data.loader import train_batches
from mdm_jax.models.pretrained import load_model
from mdm_jax.models.resnet import ResNet
from mdm_jax.models.vit import ViT
from mdm_jax.progress import NullProgress, Stopped
from mdm_jax.storage import checkpoints
from mdm_jax.storage.differences import differences
from mdm_jax.training import loop
from mdm_jax.training.classification import cross_entropy
from mdm_jax.training.config import FREE, OptimizerConfig, TrainConfig
from mdm_jax.training.job import open_job
from mdm_jax.training.loop import train
from mdm_jax.training.steps import (
    build_optimizer,
    classifier_program,
    decay_mask,
    learning_rate_schedule,
    leaves,
)

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def settings(photos, tmp_path):
    return {
        "out": str(tmp_path / "run"),
        "epochs": 3,
        "checkpoint_every": 4,
        "data": {"source": f"folder:{photos}", "evaluate": "val", "batch": 8},
        "model": {"size": [16, 16], "arguments": {"widths": [4, 8], "depths": [1, 1]}},
        "optimizer": {"learning_rate": 0.02},
        "augment": {"flip": True, "color": 0.1},
    }


def weights_of(folder):
    return (folder / "model.safetensors").read_bytes()


class StopAfter(NullProgress):
    """Asks to stop once so many steps are done."""

    def __init__(self, steps):
        self.left, self.said = steps, []

    def advance(self, done, **measures):
        self.left -= 1

    def wants_stop(self):
        return self.left <= 0

    def say(self, sentence):
        self.said.append(sentence)


def tiny_network(seed=0):
    return ResNet(num_classes=3, widths=(4, 8), depths=(1, 1), rngs=nnx.Rngs(seed))


def tiny_batch(n=8):
    rng = np.random.default_rng(1)
    return (
        rng.uniform(0, 1, (n, 16, 16, 3)).astype(np.float32),
        rng.integers(0, 3, n).astype(np.int32),
        np.ones(n, bool),
    )


def tiny_program(**optimizer):
    config = config_files.build(
        TrainConfig, {"model": {"size": [16, 16]}, "optimizer": optimizer}
    )
    compiled = classifier_program(config, tiny_network(), steps=10, steps_per_epoch=5)
    return compiled, compiled.initial(tiny_network())


# steps


@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_schedule_rises_then_falls_along_a_cosine(warmup):
    rates = np.asarray(
        [
            learning_rate_schedule(OptimizerConfig(learning_rate=0.5, warmup=warmup), 50)(i)
            for i in range(51)
        ]
    )
    first = round(50 * warmup)
    np.testing.assert_allclose(
        rates[:first],
        0.5 * (1 + np.arange(first) * first / first) / (first + 1) if first else [],
        1e-5,
    )
    np.testing.assert_allclose(
        rates[first:],
        0.25 * (1 + np.cos(np.pi * np.arange(51 - first) / (50 - first))),
        atol=1e-6,
    )
    assert rates[0] > 0
    assert rates.max() == rates[first] == 0.5


@pytest.mark.parametrize(
    ("warmup", "steps"), [(0.0, 1), (0.0, 50), (0.1, 7), (0.3, 50), (0.99, 50)]
)
def test_the_schedule_is_that_of_its_two_parts(warmup, steps):
    """optax's joined schedule gives the numbers of the one that older trainings were made with."""
    config = OptimizerConfig(learning_rate=0.5, warmup=warmup)
    first = round(warmup * steps)
    rates = optax.cosine_decay_schedule(0.5, max(1, steps - first))
    if first:
        rise = optax.linear_schedule(0.5 / (first + 1), 0.5, first)
        rates = optax.join_schedules([rise, rates], [first])
    ours = learning_rate_schedule(config, steps)
    assert [float(ours(i)) for i in range(steps)] == [float(rates(i)) for i in range(steps)]


@pytest.mark.slow
def test_norms_biases_positions_and_tokens_do_not_decay():
    transformer = nnx.eval_shape(
        lambda: ViT(
            num_classes=3,
            size=(16, 16),
            patch=8,
            width=12,
            depth=1,
            heads=3,
            distilled=True,
            rngs=nnx.Rngs(0),
        )
    )
    for network in (nnx.eval_shape(tiny_network), transformer):
        mask = {
            name.removesuffix(".value"): decay
            for name, decay in leaves(decay_mask(nnx.state(network, nnx.Param))).items()
        }
        assert {name for name, decay in mask.items() if decay} == {
            name for name in mask if name.endswith("kernel")
        }
    assert {
        "pos_embed",
        "cls_token",
        "dist_token",
        "norm.scale",
        "head.bias",
    } <= mask.keys()
    # With a gradient of zero only decay moves the weights, by learning rate times decay.
    params = jax.tree.map(
        lambda leaf: jnp.ones(leaf.shape), nnx.state(transformer, nnx.Param)
    )
    for name in ("adamw", "sgd"):
        moves = build_optimizer(
            OptimizerConfig(
                name=name, learning_rate=0.5, weight_decay=0.1, warmup=0.0, momentum=0.0
            ),
            10,
        )
        zero = jax.jit(
            lambda params, moves=moves: moves.update(
                jax.tree.map(jnp.zeros_like, params), moves.init(params), params
            )[0]
        )
        for each, update in leaves(zero(params)).items():
            np.testing.assert_allclose(
                update, -0.05 if "kernel" in each else 0.0, rtol=1e-5, err_msg=each
            )


def test_label_smoothing_closed_form():
    logits, labels = jnp.asarray([[2.0, 0.0, -1.0], [0.5, 0.1, 0.3]]), jnp.asarray([0, 2])
    log = logits - jnp.log(jnp.exp(logits).sum(-1, keepdims=True))
    expected = -(0.9 * log[jnp.arange(2), labels] + 0.1 * log.mean(-1))
    np.testing.assert_allclose(cross_entropy(logits, labels, 0.1), expected, rtol=1e-6)


def test_clipping_shortens_the_gradient():
    params = {"w": jnp.ones((2, 2))}
    for clip, scale in ((0.0, 1.0), (1.0, 0.1), (100.0, 1.0)):
        config = OptimizerConfig(
            name="sgd",
            learning_rate=1.0,
            weight_decay=0.0,
            warmup=0.0,
            momentum=0.0,
            clip=clip,
        )
        moves = build_optimizer(config, 10)
        gradient = {"w": jnp.full((2, 2), 5.0)}  # of norm 10
        updates, _ = moves.update(gradient, moves.init(params), params)
        np.testing.assert_allclose(updates["w"], -5.0 * scale, rtol=1e-5)


@pytest.mark.slow
def test_steps_agree_with_the_plain_loop_of_flax():
    compiled, state = tiny_program(learning_rate=0.01, label_smoothing=0.1)
    images, labels, valid = tiny_batch()
    network = tiny_network()
    moves = optax.adamw(
        learning_rate_schedule(OptimizerConfig(learning_rate=0.01), 10),
        weight_decay=0.05,
        mask=decay_mask,
    )
    plain = nnx.Optimizer(network, moves, wrt=nnx.Param)

    @nnx.jit
    def step(network, plain):
        def loss(network):
            smooth = optax.smooth_labels(jax.nn.one_hot(labels, 3), 0.1)
            return optax.softmax_cross_entropy(
                network((jnp.asarray(images) - 0.5) / 0.25)[0], smooth
            ).mean()

        value, gradient = nnx.value_and_grad(loss)(network)
        plain.update(network, gradient)
        return value

    for _ in range(3):
        state, loss = compiled.train(state, images, labels, valid)
        np.testing.assert_allclose(loss, step(network, plain), rtol=1e-4)
    ours, theirs = nnx.state(compiled.module(state)), nnx.state(network)
    for (name, a), b in zip(leaves(ours).items(), leaves(theirs).values()):
        np.testing.assert_allclose(a, b, atol=2e-4, err_msg=name)
    assert int(state.step) == 3
    assert float(state.sums.items) == 24


@pytest.mark.slow
def test_statistics_move_in_training_and_rest_in_evaluation():
    compiled, state = tiny_program()
    images, labels, valid = tiny_batch()
    before = jax.tree.map(np.array, state.stats)
    state, _ = compiled.train(state, images, labels, valid)
    after = jax.tree.map(np.array, state.stats)
    assert all(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after))
    )
    alone = compiled.evaluate(state, images[:1], labels[:1], valid[:1])
    doubled = compiled.evaluate(
        state, np.repeat(images[:1], 2, 0), np.repeat(labels[:1], 2), np.ones(2, bool)
    )
    mixed = compiled.evaluate(
        state, images[:2], labels[:2], np.asarray([True, False])
    )  # batch statistics would differ
    np.testing.assert_allclose(
        [float(doubled.loss) / 2, float(mixed.loss)], float(alone.loss), rtol=1e-5
    )
    assert all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state.stats))
    )


@pytest.mark.slow
def test_padding_counts_nowhere():
    compiled, state = tiny_program()
    images, labels, valid = tiny_batch()
    whole = compiled.evaluate(state, images[:5], labels[:5], valid[:5])
    padded = compiled.evaluate(
        state, np.concatenate([images[:5], images[:3] * 0 + 9]), labels, np.arange(8) < 5
    )
    np.testing.assert_allclose(padded, whole, rtol=1e-5)
    # In training a slot that is not valid moves the statistics, and neither the loss nor the
    # gradient.
    other = np.where(np.arange(8) < 5, labels, (labels + 1) % 3)
    (one, _), (two, _) = (
        compiled.train(compiled.initial(tiny_network()), images, each, np.arange(8) < 5)
        for each in (labels, other)
    )
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two))
    )


@pytest.mark.slow
def test_bfloat16_keeps_float32_weights_and_is_close():
    images, labels, valid = tiny_batch()
    losses = []
    for dtype in ("float32", "bfloat16"):
        compiled = classifier_program(
            config_files.build(TrainConfig, {"dtype": dtype, "model": {"size": [16, 16]}}),
            tiny_network(),
            10,
            5,
        )
        state, loss = compiled.train(
            compiled.initial(tiny_network()), images, labels, valid
        )
        assert {
            leaf.dtype.name for leaf in jax.tree.leaves((state.params, state.stats))
        } == {"float32"}
        losses.append(float(loss))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


# whole trainings


def test_learns_and_leaves_a_model_folder(settings, tmp_path, capsys):
    config = replace(config_files.build(TrainConfig, settings), epochs=5)
    trained = train(config)
    assert not trained.was_done
    last = trained.metrics[-1]
    assert last["eval_accuracy"] >= 0.9, trained.metrics
    assert last["eval_loss"] < trained.metrics[0]["eval_loss"]
    assert [(line["epoch"], line["step"]) for line in trained.metrics] == [
        (i, 6 * i) for i in range(1, 6)
    ]
    assert [
        json.loads(line) for line in trained.run.metrics.read_text().splitlines()
    ] == trained.metrics
    assert last["learning_rate"] < trained.metrics[1]["learning_rate"] <= 0.02
    classifier = load_model(trained.run.folder)
    assert classifier.class_names == ("blue", "green", "red")
    flat = np.stack(
        [
            np.full((16, 16, 3), np.asarray(color) / 255, np.float32)
            for color in COLORS.values()
        ]
    )
    assert np.argmax(classifier(jnp.asarray(flat))[0], -1).tolist() == [0, 1, 2]
    again = train(config)
    assert (again.was_done, again.metrics) == (True, trained.metrics)
    (tmp_path / "overlay.toml").write_text("steps = 2\nsizes = [4]")
    photo = settings["data"]["source"].removeprefix("folder:") + "/val/red/00.png"
    call = [
        "explain",
        photo,
        "--weights",
        str(trained.run.folder),
        "--out",
        str(tmp_path / "maps"),
        "--json",
    ]
    assert main([*call, "--config", str(tmp_path / "overlay.toml")]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["name"] == "red"


@pytest.mark.slow
def test_evaluation_of_a_padded_batch_is_that_of_all_items(settings):
    # 15 items in batches of 8: the metrics are means over 15.
    trained = train(replace(config_files.build(TrainConfig, settings), epochs=1))
    classifier = load_model(trained.run.folder)
    from mdm_jax.data import open_source
    from mdm_jax.data.loader import LoaderConfig, eval_batches

    source = open_source(settings["data"]["source"], "val")
    (batch,) = eval_batches(source, LoaderConfig(batch=15), classifier.preprocessing.fit)
    losses = cross_entropy(
        classifier(jnp.asarray(batch.images))[0], jnp.asarray(batch.labels), 0.0
    )
    assert trained.metrics[0]["eval_loss"] == pytest.approx(float(losses.mean()), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 4, 6, 7, 13])
def test_stopped_and_gone_on_gives_the_same(settings, tmp_path, stop, undisturbed):
    config = replace(
        config_files.build(TrainConfig, settings), out=str(tmp_path / "stopped")
    )
    watch = StopAfter(stop)
    with pytest.raises(Stopped, match="which is saved: the same command goes on"):
        train(config, watch)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    at = checkpoints.latest(tmp_path / "stopped" / "checkpoints")
    watch.left = 10**6
    # Another number of steps between checkpoints changes no weight, and is no other training.
    trained = train(replace(config, checkpoint_every=5), watch)
    assert f"going on from step {at} of 18" in watch.said
    assert weights_of(trained.run.folder) == weights_of(undisturbed.run.folder)
    same = (
        "epoch",
        "step",
        "train_loss",
        "train_accuracy",
        "eval_loss",
        "eval_accuracy",
        "learning_rate",
        "skipped",
    )
    for ours, theirs in zip(trained.metrics, undisturbed.metrics, strict=True):
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}


@pytest.mark.slow
def test_stopped_while_it_measures_gives_the_same(settings, undisturbed):
    class Measuring(StopAfter):
        def wants_stop(
            self,
        ):  # once before each of the 6 steps, once after them, then for each batch that is measured
            self.left -= 1
            return self.left < 0

        def advance(self, done, **measures): ...

    with pytest.raises(Stopped, match="stopped at step 6 of 18"):
        train(config_files.build(TrainConfig, settings), Measuring(8))
    trained = train(config_files.build(TrainConfig, settings))
    assert weights_of(trained.run.folder) == weights_of(undisturbed.run.folder)
    assert [line["train_loss"] for line in trained.metrics] == [
        line["train_loss"] for line in undisturbed.metrics
    ]


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    settings = {
        "out": str(tmp_path_factory.mktemp("whole") / "run"),
        "epochs": 3,
        "checkpoint_every": 4,
        "data": {"source": f"folder:{photos}", "evaluate": "val", "batch": 8},
        "model": {"size": [16, 16], "arguments": {"widths": [4, 8], "depths": [1, 1]}},
        "optimizer": {"learning_rate": 0.02},
        "augment": {"flip": True, "color": 0.1},
    }
    return train(config_files.build(TrainConfig, settings))


KILLED = """
import json, os, signal, sys, threading, time
from mdm_jax import config_files
from mdm_jax.storage import checkpoints
from mdm_jax.training import loop as train, run_folder
from mdm_jax.training.config import TrainConfig

settings, place, count = json.load(sys.stdin)
left = count

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def wrap(module, name, before=lambda: None, after=lambda: None):
    real = getattr(module, name)
    def wrapped(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            before()
        result = real(*arguments, **named)
        if left == 0:
            after()
        return result
    setattr(module, name, wrapped)

class Mortal(train.NullProgress):
    def advance(self, step, **measures):
        if place == "step" and step == count:
            die()

if place == "after metrics":
    wrap(run_folder, "write_metrics", after=die)
elif place == "before checkpoint":
    wrap(checkpoints, "save", before=die)
elif place == "in checkpoint":
    wrap(checkpoints, "save", before=threading.Timer(0.01, die).start, after=lambda: time.sleep(9))
elif place == "after checkpoint":
    wrap(checkpoints, "save", after=die)
elif place == "weights":
    wrap(run_folder, "write_weights", before=die)
train.train(config_files.build(TrainConfig, settings), Mortal())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_again_and_again_gives_the_same_weights(
    settings, undisturbed, compiled_once, tmp_path
):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": compiled_once,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    folder = tmp_path / "run"
    # (where it is killed, the checkpoint it then goes on from): never more than the interval of 4
    # steps is lost.
    kills = [
        (("step", 3), {None}),
        (("step", 5), {4}),
        (
            ("after metrics", 2),
            {4},
        ),  # the line of epoch 1 is written, its checkpoint is not
        (("in checkpoint", 1), {4, 6}),
        (("before checkpoint", 2), {6, 8}),
        (("weights", 1), {18}),
    ]
    for (place, count), reached in kills:
        text = json.dumps([settings, place, count])
        ended = subprocess.run(
            [sys.executable, "-c", KILLED],
            input=text,
            text=True,
            env=environment,
            capture_output=True,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert checkpoints.latest(folder / "checkpoints") in reached, (place, count)
        assert not (folder / "model.safetensors").exists()
    trained = train(config_files.build(TrainConfig, settings))
    assert weights_of(folder) == weights_of(undisturbed.run.folder)
    assert [line["step"] for line in trained.metrics] == [6, 12, 18]
    for ours, theirs in zip(trained.metrics, undisturbed.metrics):
        assert ours["train_loss"] == theirs["train_loss"]


@pytest.mark.slow
def test_ctrl_c_on_the_command_line_saves_and_says_how_to_go_on(
    settings, undisturbed, compiled_once, tmp_path, capsys
):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": compiled_once,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    config = write_toml(tmp_path, settings | {"epochs": 400})
    command = [
        sys.executable,
        "-m",
        "mdm_jax",
        "train",
        config,
        "--out",
        str(tmp_path / "long"),
    ]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert "epoch 1/400" in process.stderr.readline()
        assert main(command[3:]) == 2
        assert "another training is at work" in capsys.readouterr().err
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "which is saved: the same command goes on from there" in err
    assert checkpoints.latest(tmp_path / "long" / "checkpoints") > 0


def write_toml(folder, settings):
    """Settings as a TOML file."""
    lines = [
        f"{key} = {json.dumps(value)}"
        for key, value in settings.items()
        if not isinstance(value, dict)
    ]
    for name, table in settings.items():
        if isinstance(table, dict):
            plain = {
                key: value for key, value in table.items() if not isinstance(value, dict)
            }
            lines += [
                f"[{name}]",
                *(f"{key} = {json.dumps(value)}" for key, value in plain.items()),
            ]
            for inner, values in table.items():
                if isinstance(values, dict):
                    lines += [
                        f"[{name}.{inner}]",
                        *(f"{key} = {json.dumps(value)}" for key, value in values.items()),
                    ]
    path = folder / "config.toml"
    path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.slow
def test_a_damaged_image_is_skipped_counted_and_named(settings, photos, tmp_path, capsys):
    folder = tmp_path / "damaged"
    shutil.copytree(photos, folder)
    (folder / "train" / "red" / "03.png").write_bytes(
        (folder / "train" / "red" / "03.png").read_bytes()[:60]
    )
    (folder / "val" / "red" / "01.png").write_bytes(b"")
    settings["data"]["source"] = f"folder:{folder}"
    path = write_toml(tmp_path, settings | {"epochs": 2})
    assert main(["train", path, "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert [row["skipped"] for row in result["rows"]] == [2, 2]
    for name in ("train/red/03.png", "val/red/01.png"):
        assert (err.count(name), result["summary"].count(name)) == (1, 1)
    assert all(np.isfinite(row["train_loss"]) for row in result["rows"])


@pytest.mark.slow
def test_nan_stops_with_a_sentence_and_keeps_the_checkpoint(settings, tmp_path):
    settings["optimizer"] = {"name": "sgd", "learning_rate": 1e30, "warmup": 0.0}
    with pytest.raises(
        InputError,
        match=r"became NaN or infinite at step \d+: .*lower optimizer.learning_rate",
    ):
        train(config_files.build(TrainConfig, settings | {"checkpoint_every": 1}))
    for step in checkpoints.steps(tmp_path / "run" / "checkpoints"):
        assert step < 18
    model = checkpoints.restore(tmp_path / "run" / "checkpoints")
    assert model is None or all(
        np.isfinite(array).all() for array in model.tree["model"].values()
    )


@pytest.fixture
def ended(undisturbed, settings):
    """A copy of the training that has ended, and its config."""
    config = config_files.build(TrainConfig, settings)
    shutil.copytree(undisturbed.run.folder, config.out)
    return config, Path(config.out)


def test_an_ended_training_is_not_done_again(
    ended, undisturbed, settings, tmp_path, capsys
):
    config, folder = ended
    before = weights_of(folder)
    shutil.rmtree(folder / "checkpoints")
    again = train(config)
    assert (again.was_done, again.metrics, weights_of(folder)) == (
        True,
        undisturbed.metrics,
        before,
    )
    (folder / "metrics.jsonl").unlink()
    assert main(["train", write_toml(tmp_path, settings)]) == 0
    assert "had ended already, nothing was done: val accuracy not known" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.slow
def test_damaged_weights_are_written_again_for_all_to_read(ended):
    config, folder = ended
    before = weights_of(folder)
    for damaged in (before[:-8], before[:-1] + bytes([before[-1] ^ 1]), b""):
        (folder / "model.safetensors").write_bytes(damaged)
        assert not train(config).was_done
        assert weights_of(folder) == before
    (folder / "other").touch()
    assert (folder / "model.safetensors").stat().st_mode == (
        folder / "other"
    ).stat().st_mode
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()  # as good as a full disk: it cannot be written
    with pytest.raises(
        InputError, match=r"cannot write .*model.safetensors \(Is a directory\): make room"
    ):
        train(config)


def test_checkpoints_without_their_settings_are_refused(ended):
    config, folder = ended
    for name in ("train.json", "config.json", "model.safetensors"):
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"or whose train\.json is gone"):
        train(config)
    assert not (folder / "train.json").exists()


def test_damaged_metrics_are_passed_over(ended, undisturbed):
    config, folder = ended
    good = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(
        b"\xff\xfe\n3\n{}\n" + b'{"step": "a"}\n{"step": 1, "epoch": 1}\n' + good
    )
    again = train(config)
    assert (again.was_done, again.metrics) == (True, undisturbed.metrics)


@pytest.mark.slow
def test_a_mistake_before_the_first_checkpoint_can_be_mended(settings, tmp_path):
    wrong = settings["model"] | {"start_from": str(tmp_path / "none.safetensors")}
    with pytest.raises(InputError, match="no weights at"):
        train(config_files.build(TrainConfig, settings | {"model": wrong}))
    with pytest.raises(Stopped, match="stopped at step 2"):
        train(config_files.build(TrainConfig, settings), StopAfter(1))
    assert (
        json.loads((tmp_path / "run" / "train.json").read_text())["model"]["start_from"]
        == ""
    )


def test_data_may_move_but_not_change(ended, settings, photos, tmp_path):
    assert train(ended[0]).was_done
    moved = tmp_path / "moved"
    shutil.copytree(photos, moved)
    settings["data"]["source"] = f"folder:{moved}"
    assert train(config_files.build(TrainConfig, settings)).was_done
    (moved / "val/red/00.png").rename(moved / "val/green/99.png")
    with pytest.raises(
        InputError,
        match=r"the images or labels of folder:.*moved have changed since the training in",
    ):
        train(config_files.build(TrainConfig, settings))


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_epoch_of_only_damaged_images_is_refused(settings, photos, tmp_path, split):
    shutil.copytree(photos, tmp_path / "damaged")
    for file in (tmp_path / "damaged" / split).rglob("*.png"):
        file.write_bytes(b"no image")
    settings["data"]["source"] = f"folder:{tmp_path / 'damaged'}"
    with pytest.raises(
        InputError, match=f"no image of the split {split} could be read: .*is not an image"
    ):
        train(config_files.build(TrainConfig, settings))


def test_one_class_is_warned_of(settings, photos, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(photos / split / "red", tmp_path / "one" / split / "red")
    settings["data"]["source"] = f"folder:{tmp_path / 'one'}"
    with pytest.warns(UserWarning, match="has one class only, 'red'"):
        open_job(config_files.build(TrainConfig, settings))


@pytest.mark.slow
def test_a_stop_that_ends_the_loading_too_is_a_stop(settings, monkeypatch):
    watch = StopAfter(10**6)

    def dying(*arguments, **named):
        yield from itertools.islice(train_batches(*arguments, **named), 2)
        watch.left = wants
        raise RuntimeError("Worker process was terminated")

    monkeypatch.setattr(loop, "train_batches", dying)
    wants = 0
    with pytest.raises(Stopped, match="stopped at step 2 of 18, which is saved"):
        train(config_files.build(TrainConfig, settings), watch)
    watch.left = wants = 10**6
    with pytest.raises(RuntimeError, match="terminated"):
        train(config_files.build(TrainConfig, settings), watch)


@pytest.mark.parametrize(
    "name", [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
)
def test_signals_ask_to_stop(name):
    with stoppable(TrainingBar()) as watch:
        os.kill(os.getpid(), getattr(signal, name))
        assert watch.wants_stop()


# what a person is told


def test_names_are_no_markup(capsys):
    Terminal(as_json=False).show(
        Result([{"id": "[/b].png"}], "skipped: u[/b].png", ["u[/b].npz"])
    )
    assert capsys.readouterr().out.split() == [
        "id",
        "[/b].png",
        "skipped:",
        "u[/b].png",
        "u[/b].npz",
    ]


def test_experiments_say_one_sentence(monkeypatch, tmp_path, capsys, settings):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from experiments.training import train_networks

    config = train_networks.Config(data="folder:/does/not/exist", out=tmp_path)
    assert train_networks.train_all(config, settings, {"resnet": {}}, "title") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "is not a folder" in err
    monkeypatch.setattr(TrainingBar, "wants_stop", lambda self: True)
    config = train_networks.Config(data=settings["data"]["source"], out=tmp_path)
    assert train_networks.train_all(config, settings, {"resnet": {}}, "title") == 130
    assert (
        capsys.readouterr().err
        == "stopped at step 0 of 18, before the first: begin again\n"
    )


@pytest.mark.slow
def test_command_line_overrides_and_other_settings_are_refused(settings, tmp_path, capsys):
    path = write_toml(tmp_path, settings | {"epochs": 1})
    call = ["train", path, "--out", str(tmp_path / "other"), "--seed", "3"]
    assert main([*call, "--epochs", "2"]) == 0
    out, err = capsys.readouterr()
    assert "val accuracy" in out
    assert "epoch 2/2" in err
    assert json.loads((tmp_path / "other" / "train.json").read_text())["seed"] == 3
    before = {
        p: p.stat().st_mtime_ns
        for p in (tmp_path / "other").rglob("*")
        if p.is_file() and p.name != ".lock"
    }
    assert main(["train", path, "--out", str(tmp_path / "other")]) == 2
    err = capsys.readouterr().err
    assert (
        "holds a training with other settings (seed 3 -> 0, epochs 2 -> 1): choose another folder"
        in err
    )
    assert "(option --out)" in err
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert main([*call, "--epochs", "2"]) == 0
    assert "had ended already" in capsys.readouterr().out
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    assert main(["train", path, "--out", str(tmp_path / "foreign")]) == 2
    assert "holds other files, such as " in capsys.readouterr().err


def test_settings_that_change_no_weight_are_free():
    old = {
        "out": "a",
        "checkpoint_every": 5,
        "epochs": 3,
        "data": {"source": "digits", "workers": 0, "batch": 8},
    }
    new = {
        "out": "b",
        "checkpoint_every": 9,
        "epochs": 3,
        "data": {"source": "folder:a", "workers": 4, "batch": 9},
    }
    assert differences(old, new, FREE) == ["data.batch 8 -> 9"]
    assert differences(
        {"model": {"arguments": {}}}, {"model": {"arguments": {"depth": 2}}}
    ) == ["model.arguments.depth none -> 2"]


BAD = {
    "epoch = 3": "unknown setting 'epoch': did you mean 'epochs'?",
    "batch = 3": "unknown setting 'batch': did you mean 'data.batch'?",
    "[optimizer]\nlearning-rate = 1": (
        "unknown setting 'optimizer.learning-rate': did you mean 'learning_rate'?"
    ),
    "[optimiser]\nclip = 1": "unknown setting 'optimiser': did you mean 'optimizer'?",
    "data = 'digits'": "the setting data is 'digits': write a table, [data] and its settings",
    "epochs = 'many'": "the setting epochs is 'many': write a whole number",
    "epochs = 1.5": "the setting epochs is 1.5: write a whole number",
    "epochs = true": "the setting epochs is true: write a whole number",
    "epochs = 0": "the setting epochs is 0: give a whole number from 1",
    "seed = -1": "the setting seed is -1",
    "out = ''": "the setting out is ''",
    "checkpoint_every = 0": "the setting checkpoint_every is 0",
    "dtype = 'float16'": "unknown dtype 'float16'",
    "[data]\nbatch = 0": "the setting data.batch is 0",
    "[data]\nworkers = -1": "the setting data.workers is -1",
    "[data]\nsource = 'digit'": "unknown data source 'digit'",
    "[data]\nsource = 'folder:/does/not/exist'": "/does/not/exist",
    "[data]\nevaluate = 'tset'": "did you mean 'test'?",
    "[data]\ntrain_items = 3": "less than one batch",
    "[model]\nsize = [64]": "the setting model.size is [64]: write two whole numbers",
    "[model]\nsize = [4, 4]": "the setting model.size is [4, 4]",
    "[model]\nmean = [0.5]": (
        "the setting model.mean is [0.5]: give one number for each of 3 channels"
    ),
    "[model]\nmean = 0.5": "the setting model.mean is 0.5: write a list of numbers",
    "[model]\nmean = [0.5, true, 0.5]": (
        "the setting model.mean is [0.5, true, 0.5]: write a list of numbers"
    ),
    "[model]\nmean = ['a', 1, 1]": "the setting model.mean is ['a', 1, 1]: write a list of numbers",
    "[model]\nmean = [nan, 0, 0]": "the setting model.mean is [nan, 0.0, 0.0]: give finite numbers",
    'out = "a\\u0000b"': "the setting out is 'a\\x00b'",
    "[model]\nstd = [0.5, 0, 0.5]": (
        "the setting model.std is [0.5, 0.0, 0.5]: give numbers above 0"
    ),
    "[model]\nchannels = 4": "the setting model.channels is 4",
    "[model]\ncrop = 1.5": "the setting model.crop is 1.5",
    "[model]\ninterpolation = 'cubic'": "did you mean 'bicubic'?",
    "[model]\narchitecture = 'resnets'": "unknown architecture 'resnets'",
    "[model.arguments]\nwidth = [4]": "[model] does not describe a resnet that can be built",
    "[model.arguments]\nwidths = [4, 8]\ndepths = [1]": (
        "[model] does not describe a resnet that can be built"
    ),
    "[optimizer]\nname = 'adam'": "unknown optimizer.name 'adam': did you mean 'adamw'?",
    "[optimizer]\nlearning_rate = 0": (
        "the setting optimizer.learning_rate is 0.0: give a number above 0"
    ),
    "[optimizer]\nlearning_rate = nan": "the setting optimizer.learning_rate is nan",
    "[optimizer]\nlearning_rate = '1e-3'": (
        "the setting optimizer.learning_rate is '1e-3': write a number"
    ),
    "[optimizer]\nweight_decay = -1": "the setting optimizer.weight_decay is -1.0",
    "[optimizer]\nmomentum = 1": "the setting optimizer.momentum is 1.0",
    "[optimizer]\nwarmup = 5": "the setting optimizer.warmup is 5.0",
    "[optimizer]\nlabel_smoothing = 1": "the setting optimizer.label_smoothing is 1.0",
    "[augment]\ncrop = 0": "augment.crop is 0.0",
    "[augment]\nflip = 1": "the setting augment.flip is 1: write true or false",
    "steps = = 3": "is not valid TOML",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_config_is_one_sentence(text, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text(text)
    assert main(["train", "bad.toml"]) == 2
    out, err = capsys.readouterr()
    assert BAD[text] in err
    assert (out, err.count("\n"), err[:5]) == ("", 1, "mdm: ")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.toml"]


def test_other_bad_calls(tmp_path, capsys):
    assert main(["train", str(tmp_path / "none.toml")]) == 2
    assert "cannot read the config" in capsys.readouterr().err
    (tmp_path / "good.toml").write_text("[data]\ntrain_items = 64")
    (tmp_path / "file").write_text("")
    assert (
        main(["train", str(tmp_path / "good.toml"), "--out", str(tmp_path / "file")]) == 2
    )
    assert "is a file: choose a folder" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "good.toml"), "--epoch", "3"]) == 2
    assert "did you mean --epochs?" in capsys.readouterr().err


@pytest.mark.slow
def test_a_tfds_data_set_trains_as_its_folder_does(settings, photos, tmp_path, monkeypatch):
    from mdm_jax.data.tfds_builder import build

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    build(str(photos), "colors")
    results = []
    for out, source in (("a", f"folder:{photos}"), ("b", "tfds:colors")):
        data = settings["data"] | {"source": source}
        train(
            config_files.build(
                TrainConfig,
                settings | {"out": str(tmp_path / out), "epochs": 1, "data": data},
            )
        )
        results.append(weights_of(tmp_path / out))
    assert results[0] == results[1]


@pytest.mark.slow
def test_training_starts_from_another_training(settings, tmp_path):
    first = train(
        config_files.build(
            TrainConfig, settings | {"out": str(tmp_path / "first"), "epochs": 4}
        )
    )
    model = settings["model"] | {"start_from": str(tmp_path / "first")}
    gentle = {"learning_rate": 1e-5, "weight_decay": 0.0}
    second = train(
        config_files.build(
            TrainConfig,
            settings
            | {
                "out": str(tmp_path / "second"),
                "epochs": 1,
                "model": model,
                "optimizer": gentle,
            },
        )
    )
    assert first.metrics[0]["train_loss"] > 1.5 * first.metrics[-1]["train_loss"]
    assert second.metrics[0]["train_loss"] < 1.2 * first.metrics[-1]["train_loss"]
