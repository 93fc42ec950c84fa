"""HiResCAM, XGrad-CAM, EigenCAM, Ablation-CAM, FullGrad and AttnLRP: torch's numbers from their
formulas, those of pytorch-grad-cam, closed forms, and what cannot be explained."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from reference_network import captum, network

from mdm_jax import InputError, explain, masks
from mdm_jax.baselines import attn_lrp, eigen_cam, fullgrad
from mdm_jax.baselines.ablation_cam import AblationCAM
from mdm_jax.baselines.attn_lrp import AttnLRP
from mdm_jax.baselines.eigen_cam import EigenCAM
from mdm_jax.baselines.fullgrad import FullGrad
from mdm_jax.execution import intermediates
from mdm_jax.methods import METHODS
from mdm_jax.models.vit import ViT

KEY = jax.random.key(0)
NAMES = ("hires_cam", "xgrad_cam", "ablation_cam", "fullgrad")


@pytest.fixture(scope="module")
def fixture():
    path = pathlib.Path(__file__).parents[1] / "fixtures" / "peer_cams.npz"
    with np.load(path) as file:
        return captum() | {name: file[name] for name in file.files}


def solve(method, fixture, config=None):
    predict = network(fixture)
    run = jax.jit(
        jax.vmap(
            lambda x, y: METHODS[method].explain(predict, x, y, key=KEY, config=config)
        )
    )
    return run(jnp.asarray(fixture["images"]), jnp.asarray(fixture["targets"], jnp.int32))


def at_image_size(maps, size=(12, 10)):
    return np.stack([masks.render(jnp.asarray(each, jnp.float32), size) for each in maps])


def relative(found, expected):
    """The largest difference, of the largest value."""
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("method", NAMES)
def test_maps_are_those_of_torch_and_of_pytorch_grad_cam(fixture, method):
    explanation = solve(method, fixture)
    believed = np.asarray(explanation.info.activation) > 0
    # the library divides by the logit, not its magnitude: see the test of a negative one
    compared = believed if method == "ablation_cam" else np.array([True, True])
    assert compared.any()
    shown = fixture[f"library/{method}"][compared]
    assert relative(explanation.saliency[compared], shown) < 1e-4
    expected = fixture["fullgrad/paper" if method == "fullgrad" else method]
    if method != "fullgrad":
        expected = at_image_size(expected)
    assert relative(explanation.attribution, expected) < 1e-4


def test_fullgrad_of_the_authors_repository_stretches_a_layer_at_once(fixture):
    found = solve("fullgrad", fixture, FullGrad(variant="original")).attribution
    assert relative(found, fixture["fullgrad/original"]) < 1e-4


def test_eigen_cam_is_the_first_component_with_the_sign_of_the_activity(fixture):
    project = jax.jit(eigen_cam.project)
    for maps, expected in zip(fixture["conv2"], fixture["eigen_cam/paper"]):
        found = project(jnp.asarray(maps, jnp.float32))
        assert relative(found, np.abs(expected)) < 1e-4  # of maps without a negative value
        wide = project(jnp.asarray(np.tile(maps, 8), jnp.float32))
        # eight times the channels: more of them than places, the other way to the component
        assert relative(wide, np.abs(expected) * 8**0.5) < 1e-4
    for maps, expected in zip(fixture["conv2"], fixture["eigen_cam/centered"]):
        centered = maps - maps.mean(axis=(0, 1))
        found = np.asarray(project(jnp.asarray(centered, jnp.float32)))
        assert min(relative(found, expected), relative(found, -expected)) < 1e-4
        assert (found * np.linalg.norm(centered, axis=-1)).sum() > 0


def test_eigen_cam_is_that_of_pytorch_grad_cam_but_for_the_sign(fixture):
    config = EigenCAM(variant="pytorch-grad-cam")
    explanation = solve("eigen_cam", fixture, config)
    signs = []
    for n, shown in enumerate(fixture["library/eigen_cam"]):
        component = fixture["eigen_cam/centered"][n]
        errors = {}
        for sign in (1, -1):
            (fine,) = at_image_size(np.maximum(sign * component, 0)[None])
            errors[sign] = relative(fine / fine.max(), shown)
            if relative(explanation.attribution[n], fine) < 1e-4:
                signs.append(sign)
        assert min(errors.values()) < 1e-4
    assert len(signs) == 2  # ours is one of the two as well
    assert (explanation.info.evaluations == 0).all()
    assert (explanation.info.forwards == 1 + 3).all()


def with_norms(w):
    """The network of batch norms in the fixture, on images in [0, 1]."""
    w = {name: jnp.asarray(value, jnp.float32) for name, value in w.items()}

    def layer(x, number, stride):
        x = lax.conv_general_dilated(
            x,
            w[f"conv{number}"],
            (stride, stride),
            [(1, 1), (1, 1)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )
        scale = w[f"scale{number}"] * lax.rsqrt(w[f"var{number}"] + 1e-5)
        return jax.nn.relu((x - w[f"mean{number}"]) * scale + w[f"bias{number}"])

    def predict(images):
        x = (images - jnp.asarray([0.45, 0.5, 0.4])) / jnp.asarray([0.25, 0.2, 0.3])
        maps = layer(layer(x, 1, 1), 2, 2)
        return maps.mean((1, 2)) @ w["head"] + w["head_bias"], {"maps": maps}

    return predict


def test_fullgrad_knows_the_implicit_biases_of_norms_and_adds_up_to_the_logit(fixture):
    weights = {
        name.removeprefix("norms/"): value
        for name, value in fixture.items()
        if name.startswith("norms/")
    }
    predict = with_norms(weights)
    image = jnp.asarray(fixture["images"][0], jnp.float32)

    @jax.jit
    def solved(image):
        program = intermediates.trace(predict, image.shape)
        shares = fullgrad.biases.shares(program, image, lambda outputs: outputs[0][1])
        found = METHODS["fullgrad"].explain(predict, image, 1, key=KEY)
        return found, shares, predict(image[None])[0][0, 1]

    explanation, (of_input, of_biases), logit = solved(image)
    assert relative(explanation.saliency, fixture["norms/fullgrad"]) < 1e-4
    assert len(of_biases) == 2
    # complete: with the bias of the classifier nothing is left
    total = of_input.sum() + sum(each.sum() for each in of_biases)
    assert total + weights["head_bias"][1] == pytest.approx(float(logit), rel=1e-4)


def test_ablation_cam_from_an_early_layer_runs_all_that_lies_behind_it(fixture):
    predict = network(fixture)
    config = AblationCAM(layer="conv1", chunk=4)
    explanation = solve("ablation_cam", fixture, config)
    image, target = fixture["images"][:1], int(fixture["targets"][0])
    maps = predict(jnp.asarray(image, jnp.float32))[1]["conv1"][0]
    w = fixture

    def logit(maps):
        conv2 = lax.conv_general_dilated(
            maps[None],
            jnp.asarray(w["weights/conv2/kernel"], jnp.float32),
            (2, 2),
            [(1, 1), (1, 1)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )
        conv2 = jax.nn.relu(conv2 + w["weights/conv2/bias"].astype(np.float32))
        flat = np.asarray(conv2, np.float64).reshape(-1)
        return (flat @ w["weights/head/kernel"] + w["weights/head/bias"])[target]

    whole = logit(maps)
    losses = [(whole - logit(maps.at[..., k].set(0.0))) / abs(whole) for k in range(6)]
    expected = np.maximum((np.asarray(maps) * losses).sum(-1), 0.0)
    assert relative(explanation.attribution[0], expected) < 1e-4
    assert (explanation.info.evaluations[0], explanation.info.forwards[0]) == (0, 6 + 1 + 3)


def test_a_negative_logit_does_not_turn_ablation_cam_over(fixture):
    head = np.array([[1.0, 0.0], [-3.0, 0.0], [0.0, 0.0]])

    def predict(images):
        maps = images[:, ::2, ::2]
        # the first channel speaks for the class, but not enough
        return maps.mean((1, 2)) @ jnp.asarray(head, jnp.float32), {"maps": maps}

    image = jnp.asarray(fixture["images"][0], jnp.float32).at[..., 1].set(0.9)
    image = image.at[:4].set(jnp.asarray([1.0, 0.0, 0.5]))
    run = jax.jit(lambda x: METHODS["ablation_cam"].explain(predict, x, 0, key=KEY))
    found = run(image)
    maps = np.asarray(image)[::2, ::2]
    losses = maps.mean((0, 1)) * head[:, 0]
    assert losses.sum() < 0
    cam = np.maximum((maps * losses / abs(losses.sum())).sum(-1), 0.0)
    assert relative(found.attribution, at_image_size(cam[None])[0]) < 1e-4


@pytest.fixture(scope="module")
def transformer(fixture):
    """The Transformer of the fixture, with its weights."""
    predict = ViT(
        num_classes=3, size=(8, 12), patch=4, width=8, depth=2, heads=2, rngs=nnx.Rngs(0)
    )
    stored = "transformer/weights/"
    state = nnx.state(predict, nnx.Param)
    for path, leaf in nnx.to_flat_state(state):
        name = stored + "/".join(str(each) for each in path)
        leaf.set_value(jnp.asarray(fixture[name], jnp.float32))
    nnx.update(predict, state)
    return nnx.view(predict, deterministic=True, raise_if_not_found=False)


def test_attn_lrp_is_what_torch_finds_with_detached_values(fixture, transformer):
    image = jnp.asarray(fixture["transformer/image"], jnp.float32)
    logits = transformer(image[None])[0][0]
    np.testing.assert_allclose(logits, fixture["transformer/logits"], rtol=1e-4)
    for level in ("tokens", "pixels"):
        config = AttnLRP(level=level)
        found = jax.jit(
            lambda image, config=config: METHODS["attn_lrp"].explain(
                transformer, image, 2, key=KEY, config=config
            )
        )(image)
        expected = fixture[f"transformer/{level}"]
        if level == "pixels":
            expected = expected.sum(-1)
        else:
            expected = at_image_size(expected.reshape(1, 2, 3), (8, 12))[0]
        assert relative(found.attribution, expected) < 1e-4
        assert (found.info.evaluations, found.info.forwards) == (1, 3)


def test_networks_that_they_cannot_see_through(tiny, transformer, fixture, images):
    image = np.float32(fixture["transformer/image"])[None]
    with pytest.raises(InputError, match=r"adds a bias to an array of shape \(1, 7, 8\)"):
        explain(transformer, image, method="fullgrad")
    with pytest.raises(InputError, match="returns no attention"):
        explain(tiny, images, method="attn_lrp")

    def plain(images):
        return images.mean((1, 2)), {"map": images}

    with pytest.raises(InputError, match="adds no bias to a map"):
        explain(plain, images, method="fullgrad")

    def looping(images):
        turned, _ = lax.scan(lambda x, _: (jnp.sin(x), None), images, length=2)
        return turned.mean((1, 2)), {"map": turned}

    with pytest.raises(InputError, match="computes inside of a scan"):
        explain(looping, images, method="fullgrad")

    def without_tokens(images, attention=False):
        logits, out = transformer(images, attention=True)
        return logits, {"attention": out["attention"]}

    with pytest.raises(InputError, match="returns no tokens"):
        explain(without_tokens, image, method="attn_lrp")


def test_settings_that_cannot_be():
    for config, message in (
        (EigenCAM(variant="papr"), "did you mean 'paper'"),
        (FullGrad(variant="papr"), "did you mean 'paper'"),
        (AblationCAM(chunk=0), "chunk is 0"),
    ):
        with pytest.raises(InputError, match=message):
            config.check()
    assert set(attn_lrp.LEVELS) == {"tokens", "pixels"}
