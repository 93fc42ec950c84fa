"""Regions of prototypes: the maps, boxes and fields, on networks whose answers are known."""

from __future__ import annotations

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mdm_jax import MDMConfig, Status, masks
from mdm_jax.errors import InputError
from mdm_jax.models.protopnet import ProtoPNet, log_similarity
from mdm_jax.models.resnet import ResNet
from mdm_jax.models.xprotonet import XProtoNet
from mdm_jax.objectives import area, consistency
from mdm_jax.prototypes import boxes, maps, receptive_field, regions, search
from mdm_jax.prototypes.reasoning import last_layer

SHARP = MDMConfig(objective=(consistency("share"), area(1.0)), fill="black", steps=30)


def brightness(images):
    """Prototype 0 is the brightness of a cell of 8x8 pixels, at the brightest; prototype 1 is
    dead."""
    n, height, width, channels = images.shape
    cells = images.reshape(n, height // 8, 8, width // 8, 8, channels).mean(axis=(2, 4, 5))
    similarity = jnp.stack([cells, jnp.zeros_like(cells)], axis=-1)
    out = {"similarity_maps": similarity, "distance_maps": 1.0 - similarity}
    out |= {
        "similarities": similarity.max(axis=(1, 2)),
        "distances": 1.0 - similarity.max(axis=(1, 2)),
    }
    return out["similarities"] @ jnp.array([[1.0, 0.0], [0.0, 1.0]]), out


def strangers(images):
    """What `brightness` says without its maps: there is nothing that a CAM could look at."""
    logits, out = brightness(images)
    return logits, {name: out[name] for name in ("similarities", "distances")}


@pytest.fixture(scope="module")
def scenes():
    """Two images 32x32: a bright cell at (row 1, column 2), and one at (3, 0) with a dimmer one at
    (0, 3)."""
    drawn = np.full((2, 32, 32, 3), 0.1, np.float32)
    drawn[0, 8:16, 16:24] = 1.0
    drawn[1, 24:32, 0:8] = 1.0
    drawn[1, 0:8, 24:32] = 0.8
    return drawn


@pytest.fixture(scope="module")
def protopnet():
    backbone = ResNet(num_classes=0, widths=(4, 8), depths=(1, 1), rngs=nnx.Rngs(0))
    return ProtoPNet(
        backbone, num_classes=3, prototypes_per_class=2, width=8, rngs=nnx.Rngs(1)
    )


@pytest.fixture(scope="module")
def xprotonet():
    backbone = ResNet(num_classes=0, widths=(4, 8), depths=(1, 1), rngs=nnx.Rngs(0))
    return XProtoNet(
        backbone, num_classes=3, prototypes_per_class=2, width=8, rngs=nnx.Rngs(1)
    )


def said(network, images):
    """What a network returns in inference."""
    view = nnx.view(
        network, deterministic=True, use_running_average=True, raise_if_not_found=False
    )
    return view, jax.jit(view)(jnp.asarray(images))[1]


def mask_of(box, size=32):
    return np.asarray(receptive_field.box_mask(jnp.asarray(box), (size, size))) > 0


def test_cubic_upsampling_is_opencvs():
    grid = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    theirs = cv2.resize(grid, (50, 56), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(
        maps.upsample(jnp.asarray(grid), (56, 50)), theirs, atol=2e-6
    )
    smaller = cv2.resize(grid, (3, 4), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(maps.upsample(jnp.asarray(grid), (4, 3)), smaller, atol=2e-6)


@pytest.mark.slow
def test_regions_of_a_bright_cell(scenes):
    found = search.find_regions(
        brightness, scenes, 0, configs={"mdm": SHARP, "mdm_frozen": SHARP}
    )
    assert set(found) == {
        "activation_map",
        "cell",
        "receptive_field",
        "grad_cam",
        "mdm",
        "mdm_frozen",
    }
    first, second = mask_of([16, 8, 24, 16]), mask_of([0, 24, 8, 32])
    for name in ("cell", "receptive_field"):  # a cell sees itself and nothing else
        np.testing.assert_array_equal(found[name].saliency > 0.5, [first, second])
    for name in ("activation_map", "mdm", "mdm_frozen"):
        inside = [
            np.asarray(boxes.top_share(found[name].saliency[i], 1 / 16))[cell].mean()
            for i, cell in enumerate((first, second))
        ]
        assert min(inside) > (0.6 if name == "activation_map" else 0.85), name
    for name, each in found.items():
        np.testing.assert_array_equal(each.info.target, 0)
        whole = {"similarity": 1.0, "distance": 0.0}[regions.default_node(name)]
        np.testing.assert_allclose(each.info.activation, whole, atol=1e-6, err_msg=name)
    attribution = found["activation_map"].attribution
    np.testing.assert_allclose(
        attribution[0, 11:13, 19:21].mean(), 1.0, atol=0.05
    )  # in the similarity's own unit


def test_a_frozen_position_cannot_move():
    scene = np.full((1, 32, 32, 3), 0.1, np.float32)
    scene[0, 0:8, 0:8], scene[0, 24:32, 24:32] = 0.9, 0.899
    found = search.find_regions(
        brightness, scene, 0, regions=("mdm_frozen",), configs={"mdm_frozen": SHARP}
    )["mdm_frozen"]
    top = np.asarray(boxes.top_share(found.saliency[0], 1 / 16))
    assert top[0:8, 0:8].mean() > 0.85
    assert not top[24:32, 24:32].any()
    with pytest.raises(InputError, match="no value at a position"):
        search.find_regions(
            brightness,
            scene,
            0,
            regions=("mdm_frozen",),
            node=lambda outputs, target: outputs[0][target],
        )


@pytest.mark.slow
def test_a_dead_prototype_is_an_outcome(scenes):
    found = search.find_regions(
        brightness, scenes, 1, regions=("activation_map", "cell", "grad_cam", "mdm")
    )
    for name, each in found.items():
        np.testing.assert_array_equal(each.info.status, Status.CONSTANT, err_msg=name)
        assert np.isfinite(each.saliency).all(), name


@pytest.mark.slow
def test_a_pair_does_not_depend_on_the_others(scenes):
    options = {"regions": ("mdm",), "configs": {"mdm": MDMConfig(fill="noise", steps=3)}}
    both = search.find_regions(brightness, scenes, [0, 0], ids=["a", "b"], **options)["mdm"]
    alone = search.find_regions(brightness, scenes[1:], [0], ids=["b"], **options)["mdm"]
    np.testing.assert_array_equal(both.saliency[1], alone.saliency[0])


@pytest.mark.slow
def test_receptive_fields_are_those_of_the_layers(protopnet):
    # 3x3 thrice at full resolution, then 3x3 of stride 2 and 3x3 on half of it: 1 + 2 * 4 + 2 * 2 =
    # 13 pixels, from 2 i - 6
    config = regions.config_for("receptive_field", protopnet, (32, 32, 3))
    starts = 2 * np.arange(16) - 6
    expected = np.stack([np.maximum(starts, 0), np.minimum(starts + 13, 32)], axis=-1)
    np.testing.assert_array_equal(config.rows, expected)
    np.testing.assert_array_equal(config.columns, expected)


def test_receptive_field_of_what_sees_everything():
    def everything(images):
        logits, out = brightness(images - images.mean(axis=(1, 2, 3), keepdims=True))
        return logits, out

    config = regions.config_for("receptive_field", everything, (32, 32, 3))
    np.testing.assert_array_equal(config.rows, [[0, 32]] * 4)


def relu_by_hand():
    rule = jax.custom_vjp(jax.nn.relu)
    rule.defvjp(lambda x: (jax.nn.relu(x), x), lambda x, slope: (slope * (x > 0),))
    return rule


@pytest.mark.slow
@pytest.mark.parametrize(
    "function",
    [
        jax.nn.relu6,
        lambda x: jnp.clip(x, 0.0, 6.0),
        lambda x: jnp.minimum(x, 6.0),
        lambda x: jnp.where(x > 0, x, 0.0),
        lambda x: x * (x > 0),
        jax.checkpoint(jax.nn.relu),
        relu_by_hand(),
    ],
    ids=["relu6", "clip", "minimum", "where", "product", "checkpoint", "custom_vjp"],
)
def test_receptive_field_behind_any_activation(function):
    first, second = (
        0.3 * jax.random.normal(jax.random.key(c), (3, 3, c, 8)) for c in (3, 8)
    )
    prototypes = jax.random.uniform(jax.random.key(2), (4, 8))

    def network(images):
        layout = ("NHWC", "HWIO", "NHWC")
        features = function(
            jax.lax.conv_general_dilated(
                images, first, (2, 2), "SAME", dimension_numbers=layout
            )
        )
        features = function(
            jax.lax.conv_general_dilated(
                features, second, (2, 2), "SAME", dimension_numbers=layout
            )
        )
        distances = ((features[..., None, :] - prototypes) ** 2).sum(axis=-1)
        similarity = log_similarity(distances)
        out = {
            "similarity_maps": similarity,
            "similarities": similarity.max((1, 2)),
            "distances": distances.min((1, 2)),
        }
        return out["similarities"], out

    config = regions.config_for("receptive_field", network, (24, 24, 3))
    spans = [
        [0, 7],
        [4, 11],
        [8, 15],
        [12, 19],
        [16, 23],
        [20, 24],
    ]  # 3 + 2 * 2 pixels, every fourth
    np.testing.assert_array_equal(config.rows, spans)
    np.testing.assert_array_equal(config.columns, spans)


@pytest.mark.slow
def test_a_position_that_sees_nothing_is_said_so():
    def steps(images):
        return brightness((images > 0.3).astype(jnp.float32))

    with pytest.raises(InputError, match="sees nothing of the image"):
        regions.config_for("receptive_field", steps, (16, 16, 3))
    with pytest.raises(InputError, match="sees nothing of the image"):
        receptive_field.find_fields(steps, (16, 16, 3))
    found = jax.jit(lambda: receptive_field.find_fields(steps, (16, 16, 3)))()
    np.testing.assert_array_equal(found.rows, 0)  # and not the whole image


def test_receptive_field_config_changes_the_cost_alone(scenes):
    key, image = jax.random.key(0), jnp.asarray(scenes[0])
    config = regions.config_for("receptive_field", brightness, (32, 32, 3))
    known = jax.jit(
        lambda image: receptive_field.receptive_field(
            brightness, image, 0, key=key, config=config
        )
    )(image)
    anew = jax.jit(
        lambda image: receptive_field.receptive_field(brightness, image, 0, key=key)
    )(image)
    np.testing.assert_array_equal(known.saliency, anew.saliency)
    assert int(anew.info.forwards) - int(known.info.forwards) == 64
    with pytest.raises(InputError, match="rows and columns"):
        receptive_field.FieldConfig(rows=config.rows).check()


@pytest.mark.slow
def test_grad_cam_looks_at_the_backbone(protopnet, scenes):
    assert regions.config_for("grad_cam", protopnet, (32, 32, 3)).layer == "layer2"
    found = search.find_regions(protopnet, scenes[:1], 3, regions=("grad_cam",))["grad_cam"]
    predict, out = said(protopnet, scenes[:1])
    features = out["layer2"]
    # the gradient of the similarity by hand, through the add-on layers alone
    from mdm_jax.models.protopnet import squared_distances
    from mdm_jax.models.prototype_layers import apply_layers

    def node(features):
        patches = jax.nn.sigmoid(apply_layers(predict.add_on, features))
        return log_similarity(squared_distances(patches, predict.prototypes[...]))[
            0, ..., 3
        ].max()

    weights = jax.jit(jax.grad(node))(features).mean(axis=(1, 2), keepdims=True)
    cam = jnp.maximum((weights * features).sum(axis=-1), 0.0)[0]
    np.testing.assert_allclose(
        found.attribution[0], masks.render(cam, (32, 32)), rtol=1e-4, atol=1e-7
    )


@pytest.mark.slow
def test_occurrence_map_is_the_networks_own(xprotonet, scenes):
    shape = (32, 32, 3)
    assert regions.applicable_regions(xprotonet, shape) == (
        "occurrence_map",
        "grad_cam",
        "mdm",
    )
    found = search.find_regions(xprotonet, scenes, [4, 0], regions=("occurrence_map",))[
        "occurrence_map"
    ]
    own = said(xprotonet, scenes)[1]["occurrence_maps"][0, ..., 4]
    np.testing.assert_allclose(
        found.attribution[0], masks.render(own, (32, 32)), rtol=1e-4, atol=1e-6
    )
    with pytest.raises(InputError, match="similarity_maps"):
        search.find_regions(xprotonet, scenes, 0, regions=("activation_map",))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prototypes": [0, 2]}, "prototype 2 does not exist"),
        ({"prototypes": [0, -1]}, "prototype -1 does not exist"),
        ({"prototypes": [0]}, "one number for each of the 2 images"),
        ({"prototypes": [0.5, 1.0]}, "one number for each"),
        ({"prototypes": 0, "regions": ("activaton_map",)}, "did you mean 'activation_map'"),
        ({"prototypes": 0, "configs": {"mdn": SHARP}}, "did you mean 'mdm'"),
        (
            {"prototypes": 0, "configs": {"activation_map": SHARP}},
            "activation_map is a MDMConfig: give a MapConfig",
        ),
        ({"prototypes": 0, "regions": "mdn"}, "unknown region 'mdn'"),
        (
            {"prototypes": 0, "regions": []},
            "no regions: name at least one of activation_map",
        ),
        (
            {"prototypes": 0, "regions": "mdm", "node": "distance_at"},
            "'distance_at' are not the 2 prototypes",
        ),
        (
            {"prototypes": 0, "regions": "mdm", "node": "similarity_at"},
            "are not the 2 prototypes",
        ),
        ({"prototypes": 0, "regions": "mdm", "node": "logit"}, "are not the 2 prototypes"),
    ],
)
def test_what_cannot_be_asked(scenes, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        search.find_regions(brightness, scenes, arguments.pop("prototypes"), **arguments)


def test_a_network_without_prototypes(scenes):
    with pytest.raises(InputError, match="has no prototypes"):
        search.find_regions(lambda images: images.mean((1, 2)), scenes, 0)


@pytest.mark.slow
def test_a_strangers_network_has_what_needs_no_maps(scenes):
    assert regions.applicable_regions(strangers, (32, 32, 3)) == ("mdm",)
    quick = {"mdm": MDMConfig(steps=3)}
    found = search.find_regions(strangers, scenes, 0, configs=quick)
    assert set(found) == {"mdm"}
    alone = search.find_regions(
        strangers, scenes, 0, regions="mdm", node="similarity", configs=quick
    )
    assert set(alone) == {"mdm"}
    np.testing.assert_allclose(alone["mdm"].info.activation, 1.0, atol=1e-6)
    with pytest.raises(InputError, match="none of the network's intermediates"):
        search.find_regions(strangers, scenes, 0, regions="grad_cam")


def test_a_strangers_network_has_no_reasons():
    with pytest.raises(InputError, match=r"the network has no network\.last_layer"):
        last_layer(strangers)


def test_strongest_prototypes():
    found = search.Activations(
        np.array([[0.0, 1.0], [1.0, 0.0]]),
        np.array([[3.0, 1.0, 2.0, 2.0]] * 2),
        np.zeros((2, 4)),
    )
    np.testing.assert_array_equal(search.strongest(found, k=2), [[0, 2]] * 2)
    np.testing.assert_array_equal(
        search.strongest(found, (0, 0, 1, 1), k=2), [[2, 3], [0, 1]]
    )
    np.testing.assert_array_equal(
        search.strongest(found, (0, 0, 1, 1), targets=[0, 1]), [[0], [2]]
    )
    with pytest.raises(InputError, match="class 0 has 1 prototypes"):
        search.strongest(found, (0, 1, 1, 1), k=2)


def test_activations_are_the_networks(scenes):
    found = search.activations(brightness, scenes, together=1)
    np.testing.assert_allclose(found.similarities, [[1.0, 0.0], [1.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(found.distances, 1 - found.similarities)


def test_top_share_is_exact_and_ties_are_fair():
    noise = np.random.default_rng(0).uniform(size=(32, 32)).astype(np.float32)
    for share in (0.01, 0.05, 0.5, 1.0):
        mask = np.asarray(boxes.top_share(noise, share))
        assert mask.sum() == round(share * 1024)
        assert mask.all() or noise[mask].min() >= noise[~mask].max()
    assert not boxes.top_share(noise, 0.0).any()
    assert boxes.top_share(noise, 1e-6).sum() == 1
    box = mask_of([4, 10, 12, 18]).astype(
        np.float32
    )  # a plateau shrinks to its middle and grows about it
    np.testing.assert_array_equal(
        boxes.mask_box(boxes.top_share(box, 4 / 1024)), [7, 13, 9, 15]
    )
    assert np.asarray(boxes.top_share(box, 64 / 1024))[box > 0].all()
    grown = np.asarray(boxes.top_share(box, 200 / 1024))
    assert grown[box > 0].all()
    assert not grown[:, 24:].any()
    constant = np.zeros((32, 32), np.float32)
    np.testing.assert_array_equal(
        boxes.mask_box(boxes.top_share(constant, 4 / 1024)), [15, 15, 17, 17]
    )


def test_ranks_are_a_permutation():
    for map_ in (
        np.zeros((32, 32)),
        np.eye(32),
        -np.ones((32, 32)),
        np.random.default_rng(1).integers(0, 3, (32, 32)),
    ):
        places = np.asarray(boxes.ranks(map_.astype(np.float32)))
        np.testing.assert_array_equal(np.sort(places.ravel()), np.arange(map_.size))
        assert (np.diff(map_.ravel()[np.argsort(places.ravel())]) <= 0).all()


def test_percentile_box_surrounds_every_piece():
    map_ = np.zeros((20, 20), np.float32)
    map_[2:5, 3:6] = 1.0  # 9 pixels
    map_[15, 17] = 0.9
    map_[0, 0:12] = 0.5  # 22 pixels are not zero: the 95th percentile of 400 is 0.5
    np.testing.assert_array_equal(boxes.percentile_box(map_), [0, 0, 18, 16])
    np.testing.assert_array_equal(
        boxes.percentile_box(map_, 97.6), [3, 2, 18, 16]
    )  # one far pixel inflates it
    np.testing.assert_allclose(
        boxes.box_area(boxes.percentile_box(map_, 97.6), (20, 20)), 15 * 14 / 400
    )
    np.testing.assert_array_equal(
        boxes.percentile_box(np.zeros((4, 6), np.float32)), [0, 0, 6, 4]
    )
    np.testing.assert_array_equal(boxes.mask_box(np.zeros((4, 6), bool)), [0, 0, 0, 0])


def test_components_are_ordered_by_size():
    mask = np.zeros((8, 8), bool)
    mask[0, 0:2] = True
    mask[4:7, 4:7] = True
    mask[7, 7] = True  # touches by a corner
    mask[3, 0] = True
    labels = boxes.components(mask)
    assert (labels[4:7, 4:7] == 1).all()
    assert (labels[7, 7], labels[0, 0], labels[3, 0], labels[5, 0], labels.max()) == (
        1,
        2,
        3,
        0,
        3,
    )


def test_cells_share_out_the_pixels():
    for cells, pixels in ((7, 224), (4, 30), (8, 64), (5, 8)):
        covered = np.zeros((pixels, pixels), int)
        for row in range(cells):
            for column in range(cells):
                x0, y0, x1, y1 = np.asarray(
                    receptive_field.cell_box(row, column, (cells, cells), (pixels, pixels))
                )
                covered[y0:y1, x0:x1] += 1
        assert (covered == 1).all()
