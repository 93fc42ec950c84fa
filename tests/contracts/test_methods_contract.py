"""What every method must keep, run over all of them: the one-image contract and the batch that is
built on it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import patch_network
from flax import nnx

from mdm_jax import MDMConfig, area, consistency, explain
from mdm_jax.baselines.ablation_cam import AblationCAM
from mdm_jax.baselines.blur_ig import BlurIG
from mdm_jax.baselines.extremal_perturbation import ExtremalPerturbation
from mdm_jax.baselines.guided_ig import GuidedIG
from mdm_jax.baselines.hsic import HSIC
from mdm_jax.baselines.igos import IGOS
from mdm_jax.baselines.igos_pp import IGOSPlusPlus
from mdm_jax.baselines.integrated_gradients import IntegratedGradients
from mdm_jax.baselines.kernel_shap import KernelSHAP
from mdm_jax.baselines.lime import LIME
from mdm_jax.baselines.meaningful_perturbation import MeaningfulPerturbation
from mdm_jax.baselines.occlusion import Occlusion
from mdm_jax.baselines.rise import RISE
from mdm_jax.baselines.samp import SAMP
from mdm_jax.baselines.score_cam import ScoreCAM
from mdm_jax.baselines.smoothgrad import SmoothGrad
from mdm_jax.baselines.sobol_indices import SobolIndices
from mdm_jax.baselines.submodular_selection import SubmodularSelection
from mdm_jax.hdm import HDMConfig
from mdm_jax.methods import METHODS
from mdm_jax.models.vit import ViT
from mdm_jax.problem import with_empty_named
from mdm_jax.types import Explanation

# A line search chooses by small differences, which rounding turns.
STEADY = {"optimizer": "nesterov", "learning_rate": 10.0}

CONFIGS = {
    "mdm": MDMConfig(
        sizes=(4, 8), steps=6, start="half", optimizer=optax.sgd
    ),  # Adam steps by signs, which rounding turns
    "hdm": HDMConfig(
        benchmark_sizes=(4,),
        auxiliary_sizes=(8,),
        benchmark_steps=3,
        auxiliary_steps=3,
        start="half",
    ),
    "gradient": None,
    "input_x_gradient": None,
    "smoothgrad": SmoothGrad(num_samples=5, chunk=3),
    "integrated_gradients": IntegratedGradients(steps=5, chunk=3),
    "occlusion": Occlusion(window=8, stride=8, chunk=6),
    "rise": RISE(num_samples=10, cells=4, chunk=6),
    "random": None,
    "center": None,
    "sobel": None,
    "grad_cam": None,
    "grad_cam_pp": None,
    "layer_cam": None,
    "score_cam": ScoreCAM(chunk=3),
    "hires_cam": None,
    "xgrad_cam": None,
    "eigen_cam": None,
    "ablation_cam": AblationCAM(chunk=3),
    "fullgrad": None,
    "rollout": None,
    "chefer": None,
    "attn_lrp": None,
    "meaningful_perturbation": MeaningfulPerturbation(steps=4, cells=8, start="ones"),
    "extremal_perturbation": ExtremalPerturbation(steps=4, levels=3, cell=28.0, sigma=84.0),
    "hsic": HSIC(num_samples=10, cells=4, chunk=6),
    "sobol_indices": SobolIndices(num_samples=2, cells=4, chunk=6),
    "lime": LIME(num_samples=20, segments=9, rounds=3, chunk=6),
    "kernel_shap": KernelSHAP(num_samples=60, segments=9, rounds=3, chunk=6),
    "submodular_selection": SubmodularSelection(segments=6, rounds=3, chunk=2),
    "igos": IGOS(
        iterations=3, steps=4, cells=8, blur_kernel=301, **STEADY, area_weight=0.01
    ),
    "igos_pp": IGOSPlusPlus(
        iterations=3, steps=2, cells=8, blur_kernel=301, **STEADY, area_weight=0.01
    ),
    "samp": SAMP(step_share=0.25, momentum=0.0),
    "guided_ig": GuidedIG(steps=4, max_distance=0.25),
    "blur_ig": BlurIG(steps=5, max_sigma=40.0, chunk=3),
}
"""the settings under which each method is tested; None for its default"""

WIDE_CONFIGS = {
    "mdm": MDMConfig(
        sizes=None, steps=30, objective=(consistency(), area(10.0))
    ),  # the spot is large
    "hdm": HDMConfig(benchmark_steps=10, auxiliary_steps=20),
    "occlusion": Occlusion(window=7, stride=5),
    "rise": RISE(num_samples=200, cells=7),
    "meaningful_perturbation": MeaningfulPerturbation(
        steps=30, cells=7, fill_blur=70.0, start="ones"
    ),
    "extremal_perturbation": ExtremalPerturbation(
        areas=(0.07,),
        steps=60,
        levels=3,
        cell=28.0,
        sigma=56.0,
        max_blur=140.0,
        learning_rate=0.03,
    ),
    "hsic": HSIC(num_samples=100, cells=7),
    "sobol_indices": SobolIndices(num_samples=4, cells=7),
    "lime": LIME(num_samples=100, segments=15, baseline="black"),
    "kernel_shap": KernelSHAP(num_samples=100, segments=15),
    "submodular_selection": SubmodularSelection(segments=15),
}
"""likewise for wide images, where a few more steps must find the object"""

NETWORKS = dict.fromkeys(METHODS, "tiny") | {
    "rollout": "transformer",
    "chefer": "transformer",
    "attn_lrp": "transformer",
}
"""the network that each method is tested on"""


def patch_map(images):
    """The patch network with what it looks at as a map [n, 8, 8, 3] of means over 4 x 4 pixels, and
    a bias."""
    seen = images.reshape(len(images), 8, 4, 8, 4, -1).mean((2, 4)) + jnp.zeros(3)
    inside = seen[:, 2:4, 4:6].mean((1, 2, 3))
    return jnp.stack([8.0 * inside - 3.0, jnp.zeros_like(inside)], axis=-1), {"map": seen}


def patch_attention(images):
    """A class token that attends to 16 patches by their brightness, as one head in each of two
    blocks."""
    patches = (
        images.reshape(len(images), 4, 8, 4, 8, -1).mean((2, 4, 5)).reshape(len(images), -1)
    )
    first = jnp.concatenate([jnp.ones((len(images), 1)), patches], axis=1)[..., None]
    tokens, attention = first[..., 0], []
    for _ in range(2):
        attention.append(
            jax.nn.softmax(4.0 * tokens[:, :, None] * tokens[:, None, :], axis=-1)[:, None]
        )
        tokens = tokens + jnp.einsum("nqk,nk->nq", attention[-1][:, 0], tokens)
    return jnp.stack([tokens[:, 0], jnp.zeros(len(images))], axis=-1), {
        "tokens": first,
        "attention": attention,
    }


CAMS = (
    "grad_cam",
    "grad_cam_pp",
    "layer_cam",
    "score_cam",
    "hires_cam",
    "xgrad_cam",
    "eigen_cam",
    "ablation_cam",
    "fullgrad",
)
FUNCTIONS = (
    dict.fromkeys(METHODS, patch_network)
    | dict.fromkeys(CAMS, patch_map)
    | dict.fromkeys(("rollout", "chefer", "attn_lrp"), patch_attention)
)
"""the plain function that each method is tested on: it returns more than logits where the method
needs more"""


WIDE = (24, 40)
SPOT = (slice(8, 16), slice(24, 32))
"""rows and columns of the object in a wide image; with rows for columns it would lie outside"""
BLIND = ("random", "center", "sobel", "rollout")
"""methods that do not ask which pixels matter to the class"""


def wide_network(images):
    """Two logits, the first the brightness of the spot, also as attention to it: whatever mixes
    rows and columns misses it."""
    seen = images.reshape(len(images), 6, 4, 10, 4, -1).mean((2, 4)) + jnp.zeros(1)
    spot = jnp.zeros((3, 5)).at[1, 3].set(1.0).reshape(-1)
    bright = (
        seen.reshape(len(images), 3, 2, 5, 2, -1).mean((2, 4, 5)).reshape(len(images), -1)
        * spot
    )
    first = jnp.concatenate([jnp.zeros((len(images), 1)), bright], axis=1)[..., None]
    tokens = first[..., 0]
    attention = jax.nn.softmax(4.0 * tokens[:, None, :] * jnp.ones((16, 1)), axis=-1)[
        :, None
    ]
    flow = jnp.einsum("nqk,nk->nq", attention[:, 0], tokens)[:, 0]
    score = 6.0 * seen[:, 2:4, 6:8].mean((1, 2, 3)) + flow - 3.0
    return jnp.stack([score, jnp.zeros_like(score)], axis=-1), {
        "map": seen,
        "tokens": first,
        "attention": [attention],
    }


@pytest.fixture(scope="session")
def transformer():
    """A Transformer with random weights on 32x32 images, in inference mode, whose attention is far
    from uniform."""
    network = ViT(num_classes=3, size=(32, 32), width=8, depth=2, heads=2, rngs=nnx.Rngs(0))
    for block in network.blocks:
        block.attn.qkv.kernel[...] *= 6.0
    network.head.kernel[...] *= 5.0
    return nnx.view(
        network, deterministic=True, use_running_average=True, raise_if_not_found=False
    )


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def network(method, request):
    return request.getfixturevalue(NETWORKS[method])


# A last batch that is not full is filled up, which is the batch's matter, not the method's: methods
# that draw, and one that ends when the last image of a batch has, stand for all others.
PADDED = ("mdm", "hdm", "random", "rise", "smoothgrad", "samp")


def close(a, b, atol=1e-4):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


def test_every_method_has_a_test_config_and_a_network():
    assert CONFIGS.keys() == NETWORKS.keys() == METHODS.keys()


def test_shape_range_and_finiteness(method, network, images):
    explanation = explain(network, images, method=method, config=CONFIGS[method])
    assert isinstance(explanation, Explanation)
    assert explanation.saliency.shape == images.shape[:3]
    assert explanation.saliency.dtype == np.float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(explanation))
    assert explanation.saliency.min() >= 0
    assert explanation.saliency.max() == pytest.approx(1.0, abs=1e-6)
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(explanation))


@pytest.mark.slow
def test_batch_equals_a_loop_over_images(method, network, images):
    together = explain(network, images, [0, 1, 2], method=method, config=CONFIGS[method])
    one = jax.jit(
        lambda image, target, i: with_empty_named(
            METHODS[method].explain(
                network,
                image,
                target,
                key=jax.random.fold_in(jax.random.key(0), i),
                config=CONFIGS[method],
            )
        )
    )
    for i, image in enumerate(images):
        close(
            jax.tree.map(lambda leaf, i=i: leaf[i], together),
            one(jnp.asarray(image), jnp.int32(i), jnp.uint32(i)),
        )


@pytest.mark.slow
def test_same_key_same_result_and_other_batch_sizes_and_orders(method, network, images):
    whole = explain(
        network, images, method=method, config=CONFIGS[method], ids=["a", "b", "c"]
    )
    again = explain(
        network, images, method=method, config=CONFIGS[method], ids=["a", "b", "c"]
    )
    jax.tree.map(np.testing.assert_array_equal, whole, again)
    order = [2, 0, 1]
    turned = explain(
        network, images[order], method=method, config=CONFIGS[method], ids=["c", "a", "b"]
    )
    close(turned, jax.tree.map(lambda leaf: leaf[order], whole))
    if method not in PADDED:
        return
    padded = explain(
        network,
        images,
        method=method,
        config=CONFIGS[method],
        ids=["a", "b", "c"],
        micro_batch=2,
    )
    close(padded, whole)


@pytest.mark.slow
def test_a_second_call_compiles_nothing(method, network, images, compilations):
    for each in (network, FUNCTIONS[method]):
        explain(each, images, method=method, config=CONFIGS[method])
        with compilations as compiled:
            explain(each, images[::-1], method=method, config=CONFIGS[method])
        assert compiled.count == 0


@pytest.mark.slow
def test_explicit_target_of_first_choice_changes_nothing(method, network, images):
    free = explain(network, images, method=method, config=CONFIGS[method])
    told = explain(network, images, free.info.target, method=method, config=CONFIGS[method])
    close(free, told, atol=1e-6)
    np.testing.assert_array_equal(
        free.info.target, np.argmax(network(jnp.asarray(images))[0], axis=-1)
    )


@pytest.mark.slow
def test_wide_images_of_one_channel(method):
    """Two classes, one channel, and sides that differ and that no grid of masks or windows
    divides."""
    drawn = np.random.default_rng(0).uniform(0.0, 0.3, (2, *WIDE, 1)).astype(np.float32)
    drawn[:, *SPOT] += 0.6
    found = explain(
        wide_network,
        drawn,
        0,
        method=method,
        config=WIDE_CONFIGS.get(method, CONFIGS[method]),
    )
    assert found.saliency.shape == (2, *WIDE)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    if method not in BLIND:
        inside = np.zeros(WIDE, bool)
        inside[SPOT] = True
        assert (
            found.saliency[:, inside].mean(1) > found.saliency[:, ~inside].mean(1) + 0.1
        ).all()
