"""What is found out about networks, nodes and arguments before anything is compiled."""

import warnings
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax import HDMConfig, InputError, MDMConfig, explain
from mdm_jax.execution.gradients import why_no_gradient
from mdm_jax.execution.keys import as_key, id_numbers
from mdm_jax.execution.micro_batches import check_micro_batch
from mdm_jax.execution.network import as_network, split
from mdm_jax.network_checks import check_network
from mdm_jax.problem import check_targets, name_empty
from mdm_jax.types import Status

QUICK = MDMConfig(sizes=(4,), steps=1)
IMAGES = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
IMAGE = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)


def averages(x):
    return x.mean((1, 2))


def counted(x):
    return jax.lax.while_loop(lambda c: c.sum() < 100, lambda c: c * 2, averages(x))


def called_back(x):
    shape = jax.ShapeDtypeStruct((len(x), 3), jnp.float32)
    host = lambda a: np.asarray(a).mean((-3, -2))  # noqa: E731 (as users write it)
    return jax.pure_callback(host, shape, x, vmap_method="sequential")


FLAT = {
    "round": lambda x: averages(jnp.round(x)),
    "argmax": lambda x: jax.nn.one_hot(jnp.argmax(averages(x), -1), 3),
    "stop_gradient": lambda x: averages(jax.lax.stop_gradient(x)),
    "gt": lambda x: averages(jnp.where(x > 0.5, 1.0, 0.0)),
    "floor": jax.checkpoint(lambda x: averages(jnp.floor(x))),
    "sign": jax.jit(lambda x: averages(jax.nn.relu(jnp.sign(x)))),
    "whole numbers": lambda x: averages((x * 255).astype(jnp.uint8).astype(jnp.float32)),
}


@pytest.mark.parametrize("cause", FLAT)
def test_a_derivative_that_is_zero_everywhere_is_named(cause):
    assert cause in why_no_gradient(FLAT[cause], IMAGE)


@pytest.mark.parametrize(
    "network",
    [
        averages,
        lambda x: averages(x.astype(jnp.bfloat16)),
        lambda x: averages(jnp.abs(jnp.fft.fft(x))),
        lambda x: averages(x + jnp.round(x)),
        lambda x: jax.nn.softmax(averages(x)),
    ],
)
def test_a_derivative_by_some_way_is_enough(network):
    assert why_no_gradient(network, IMAGE) is None


@pytest.mark.parametrize("method", ["mdm", "hdm", "gradient", "meaningful_perturbation"])
@pytest.mark.parametrize("cause", ["round", "stop_gradient"])
def test_methods_that_need_a_gradient_refuse(method, cause):
    with pytest.raises(
        InputError, match=rf"no gradient .*{cause} alone.*rise or occlusion"
    ):
        explain(FLAT[cause], IMAGES, method=method)


@pytest.mark.parametrize("network", [counted, called_back])
def test_networks_that_cannot_be_differentiated_are_refused(network):
    with pytest.raises(InputError, match="cannot be differentiated"):
        explain(network, IMAGES, config=QUICK)


def test_a_node_without_a_gradient_is_refused():
    def first_choice(outputs, target):
        return (outputs.argmax() == target).astype(jnp.float32)

    with pytest.raises(InputError, match="argmax alone"):
        explain(averages, IMAGES, method="gradient", node=first_choice)


def test_methods_without_gradients_explain_such_networks():
    explanation = explain(FLAT["round"], IMAGES, method="occlusion:window=4", node="logit")
    assert (np.ptp(explanation.saliency, axis=(1, 2)) > 0).all()


def saturated(x):
    """Logits that say 20 or 0, by a sigmoid so steep that its gradient is 0 in float32, and a
    quarter of the image that matters."""
    bright = x[:, 2:6, 2:6].mean((1, 2, 3))
    on = 20.0 * jax.nn.sigmoid(1e6 * (bright - 0.5))
    return jnp.stack([on, jnp.zeros_like(on)], axis=-1)


SPOTS = np.zeros((2, 8, 8, 3), np.float32)
SPOTS[:, 2:6, 2:6] = 0.9
SMALL_HDM = HDMConfig(
    benchmark_sizes=(2,), auxiliary_sizes=(4,), benchmark_steps=1, auxiliary_steps=1
)


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("gradient", None),
        pytest.param("hdm", SMALL_HDM, marks=pytest.mark.slow),
        pytest.param(
            "mdm",
            MDMConfig(sizes=(2, 4), steps=2, start=0.9),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_gradients_that_are_zero_in_numbers_have_a_status(method, config):
    found = explain(saturated, SPOTS, 0, method=method, config=config, node="logit")
    assert not found.saliency.any()
    assert (found.info.activation == 20).all()
    assert (found.info.activation_fill < 20).all()
    assert (found.info.status == Status.EMPTY).all()


def test_an_empty_map_does_not_hide_another_failure():
    flat = jnp.zeros((2, 2))
    kept = (Status.NOT_FINITE, Status.CONSTANT, Status.LOST)
    for status in Status:
        named = int(name_empty(jnp.int32(status), flat))
        assert named == (status if status in kept else Status.EMPTY)
        assert int(name_empty(jnp.int32(status), flat.at[0, 0].set(1))) == status


def test_a_cam_looks_at_what_lies_behind_its_layer():
    def behind(x):
        layer = x[:, ::2, ::2] * 2
        return averages(jnp.round(layer)), {"layer": layer}

    def before(x):
        layer = jnp.round(x[:, ::2, ::2]) * 2
        return averages(layer), {"layer": layer}

    with pytest.raises(InputError, match=r"behind out\['layer'\].* round alone"):
        explain(behind, IMAGES, method="grad_cam")
    assert np.ptp(explain(before, IMAGES, method="grad_cam").saliency) > 0


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (lambda outputs: outputs[0], "the node fails .*takes 1 positional argument"),
        (
            lambda outputs, target: outputs["logits"],
            "the node fails on the network's outputs",
        ),
        (lambda outputs, target: "cat", "the node gives a str"),
        (lambda outputs, target: None, "the node gives a NoneType"),
        (lambda outputs, target: outputs[target] * 1j, "the node gives a complex64"),
    ],
)
def test_nodes_that_cannot_be(node, message):
    with pytest.raises(InputError, match=message):
        explain(averages, IMAGES, node=node, config=QUICK)


def test_complex_outputs_are_refused():
    with pytest.raises(InputError, match="outputs are complex numbers"):
        explain(lambda x: averages(jnp.fft.fft(x)), IMAGES, config=QUICK)


def hints(network, node):
    """What is told of a network, in one text."""
    traced, _ = as_network(network, (8, 8, 3))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check_network(traced, node, (8, 8, 3))
    return " ".join(str(each.message) for each in told)


def by_hand(x):
    powers = jnp.exp(averages(x))
    return powers / powers.sum(-1, keepdims=True)


PROBABILITIES = {
    "softmax": lambda x: jax.nn.softmax(averages(x)),
    "softmax with more outputs": jax.jit(
        lambda x: (jax.nn.softmax(averages(x)).astype(jnp.bfloat16), {"layer": x})
    ),
    "softmax by hand": by_hand,
    "sigmoid": lambda x: jax.nn.sigmoid(averages(x)),
}


@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_are_no_logits(name):
    network = PROBABILITIES[name]
    for node in ("probability", "log_odds", "sigmoid"):
        assert f"ends in a {name.split()[0]}" in hints(network, node)
    assert hints(network, "logit") == ""


@pytest.mark.parametrize(
    "network",
    [
        averages,
        lambda x: jax.nn.log_softmax(averages(x)),
        lambda x: averages(x) / x.sum((1, 2)),
        lambda x: jax.lax.map(lambda image: image.mean((0, 1)), x),
        lambda x: averages(x.reshape(1, 8, 8, 3)),
    ],
)
def test_ordinary_networks_are_not_warned_of(network):
    assert hints(network, "probability") == ""


def normalized(x, axes):
    return averages((x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True))


def test_images_that_depend_on_their_batch_are_told():
    assert "depends on the other images" in hints(
        lambda x: normalized(x, (0, 1, 2)), "probability"
    )
    assert hints(lambda x: normalized(x, (1, 2)), "probability") == ""


def test_the_softmax_of_one_output_is_refused():
    one = lambda x: averages(x)[:, :1]  # noqa: E731 (as users write it)
    for node in ("probability", "log_odds"):
        with pytest.raises(InputError, match=r"one output, whose softmax is 1 .*'sigmoid'"):
            hints(one, node)
    assert hints(one, "sigmoid") == ""


def test_state_beside_the_logits_is_left_out():
    @jax.tree_util.register_dataclass
    @dataclass(frozen=True)
    class Module:
        scale: jax.Array

        def __call__(self, x):
            return averages(x) * self.scale, {"mean": self.scale}, x

    module = Module(jnp.arange(3.0))
    for network in (module, lambda x: module(x)):
        traced, outputs = as_network(network, (8, 8, 3))
        logits, state, maps = traced(jnp.asarray(IMAGES))
        np.testing.assert_allclose(logits, module(IMAGES)[0], rtol=1e-6)
        assert state == outputs[1] == {"mean": None}
        assert maps.shape == IMAGES.shape
        again, _ = as_network(network, (8, 8, 3))
        assert split(again)[1] == split(traced)[1]  # nothing is compiled anew


@pytest.mark.parametrize(
    "key", [None, "1", 1.5, True, np.array([0, 1]), jax.random.split(jax.random.key(0))]
)
def test_keys_that_cannot_be(key):
    with pytest.raises(InputError, match="the key "):
        as_key(key)


def test_keys_that_can_be():
    for key in (1, np.uint8(1), jax.random.key(1), jax.random.PRNGKey(1)):
        assert jax.random.key_data(as_key(key)).tolist() == [0, 1]


@pytest.mark.parametrize("micro_batch", ["2", 1.5, True, 0, [2]])
def test_micro_batches_that_cannot_be(micro_batch):
    with pytest.raises(InputError, match=r"micro_batch is .*: give a whole number from 1"):
        check_micro_batch(micro_batch)


def test_ids_are_one_for_each_image():
    with pytest.raises(InputError, match="ids are 3"):
        id_numbers(3)


def test_any_negative_target_means_the_first_choice():
    logits = jax.ShapeDtypeStruct((3,), jnp.float32)
    assert check_targets([-(2**40), 2], 2, logits).tolist() == [-1, 2]


def test_a_target_of_no_known_count_fits_in_32_bits():
    with pytest.raises(InputError, match="target 1099511627776 is out of range"):
        check_targets(2**40, 1, {"logits": np.zeros(3)}, lambda outputs, target: 0)
