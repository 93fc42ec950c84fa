"""The push against brute force, on images whose features are known; what cannot be pushed; records
and pruning."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mdm_jax import InputError
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.data.source import Example
from mdm_jax.models import weights
from mdm_jax.models.architectures import build
from mdm_jax.models.classifier import Classifier
from mdm_jax.training.prototypes import record as records
from mdm_jax.training.prototypes.projection import find_nearest, project, push_records
from mdm_jax.training.prototypes.pruning import (
    prototypes_to_keep,
    prune_record,
    prune_weights,
)
from mdm_jax.training.prototypes.record import PushedPrototype, PushRecord

PREPROCESSING = Preprocessing(3, (16, 16), 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)


class Noise:
    """Random images, of which `labels` tells the classes; -2 is one that cannot be read."""

    name, class_names = "noise", ("a", "b", "c")

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        if self.labels[index] == -2:
            raise InputError(f"noise/{index} is damaged")
        image = np.random.default_rng(index).uniform(0, 1, (16, 16, 3)).astype(np.float32)
        image = (
            np.round(image * 255).astype(np.uint8).astype(np.float32) / 255
        )  # as it is read
        return Example(f"noise/{index}", image, self.labels[index], None, None)


def network(name, classes=(0, 0, 1, 2, 2), **arguments):
    below = {"widths": [4, 8], "depths": [1, 1]}
    given = {
        "prototype_classes": classes,
        "width": 6,
        "backbone_arguments": below,
        **arguments,
    }
    module = build(name, num_classes=3, size=(16, 16), rngs=nnx.Rngs(0), **given)
    module.prototypes[...] = jax.random.uniform(
        jax.random.key(1), module.prototypes.shape, minval=0.3, maxval=0.7
    )
    return nnx.view(
        module, deterministic=True, use_running_average=True, raise_if_not_found=False
    )


@pytest.fixture(scope="module")
def classifiers():
    return {
        name: Classifier(network(name), name, ("a", "b", "c"), PREPROCESSING)
        for name in ("protopnet", "xprotonet")
    }


LABELS = [0, 1, 2, 0, -2, 1, 2, 0, 1, 0, 2]


def brute(classifier, source, own):
    """Every (item, place, distance, feature) of each prototype, nearest first, one image at a
    time."""
    good = [i for i, label in enumerate(source.labels) if label >= 0]
    _, out = jax.jit(classifier)(jnp.asarray(np.stack([source[i].image for i in good])))
    found = []
    for j, each in enumerate(classifier.network.prototype_classes):
        candidates = []
        p = np.asarray(classifier.network.prototypes[j], np.float64)
        for row, i in enumerate(good):
            if own and source.labels[i] != each:
                continue
            if "distance_maps" in out:
                patches = np.asarray(out["patches"][row], np.float64)
                distances = ((patches - p) ** 2).sum(-1)
                place = np.unravel_index(distances.argmin(), distances.shape)
                candidates.append((distances.min(), i, place, patches[place]))
            else:
                f = np.asarray(out["pooled"][row, j], np.float64)
                candidates.append(
                    (1 - f @ p / np.linalg.norm(f) / np.linalg.norm(p), i, (-1, -1), f)
                )
        found.append(sorted(candidates, key=lambda each: each[:2]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["protopnet", "xprotonet"])
@pytest.mark.parametrize("own", [True, False])
def test_the_nearest_are_those_of_brute_force(classifiers, name, own):
    classifier, source = classifiers[name], Noise(LABELS)
    found = find_nearest(classifier, source, k=3, own_class=own, batch=4)
    for j, candidates in enumerate(brute(classifier, source, own)):
        for place, (distance, item, position, feature) in enumerate(candidates[:3]):
            np.testing.assert_allclose(found.distances[j, place], distance, atol=1e-5)
            assert found.items[j, place] == item
            assert tuple(found.positions[j, place]) == position
            np.testing.assert_allclose(found.features[j, place], feature, atol=1e-5)
            assert found.labels[j, place] == source.labels[item]
            assert found.own[j, place] == (
                source.labels[item] == classifier.network.prototype_classes[j]
            )
    assert found.skipped == ("noise/4 is damaged",)


@pytest.mark.slow
def test_the_size_of_a_batch_changes_nothing(classifiers):
    one, other = (
        find_nearest(classifiers["protopnet"], Noise(LABELS), k=2, batch=batch)
        for batch in (4, 11)
    )
    for a, b in zip(one[:-1], other[:-1]):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert one.items.tolist() == other.items.tolist()
    few = find_nearest(classifiers["protopnet"], Noise(LABELS), limit=3, batch=4)
    assert set(few.items[few.items >= 0].tolist()) <= {
        0,
        3,
        7,
    }  # three items, spread over eleven


@pytest.mark.slow
@pytest.mark.parametrize("name", ["protopnet", "xprotonet"])
def test_after_the_push_every_prototype_is_the_recorded_feature(classifiers, name):
    classifier, source = classifiers[name], Noise(LABELS)
    found = find_nearest(classifier, source, batch=4)
    told = push_records(
        found, source, classifier.network.prototype_classes, classifier.class_names
    )
    module = nnx.clone(classifier.network)
    module.prototypes[...] = jnp.asarray(project(module.prototypes[...], found, told))
    for j, each in enumerate(told):
        assert each.label == each.class_index == module.prototype_classes[j]
        assert each.id == f"noise/{each.item}"
        _, out = jax.jit(Classifier(module, name, classifier.class_names, PREPROCESSING))(
            source[each.item].image[None]
        )
        feature = (
            out["patches"][0, *each.position]
            if name == "protopnet"
            else out["pooled"][0, j]
        )
        np.testing.assert_allclose(module.prototypes[j], feature, atol=1e-5)
        np.testing.assert_allclose(out["distances"][0, j], 0.0, atol=1e-5)
        assert (each.position is None) == (name == "xprotonet")
    again = find_nearest(
        Classifier(module, name, classifier.class_names, PREPROCESSING), source, batch=4
    )
    np.testing.assert_allclose(again.distances, 0.0, atol=1e-5)


def test_a_class_without_images_leaves_its_prototypes_as_they_are(classifiers):
    classifier, source = classifiers["protopnet"], Noise([0, 0, 1, -2])
    found = find_nearest(classifier, source, k=2, batch=4)
    assert found.items[3:].tolist() == [[-1, -1], [-1, -1]]
    assert np.isinf(found.distances[3:]).all()
    assert found.items[2].tolist() == [2, -1]  # one image of class b
    told = push_records(
        found, source, classifier.network.prototype_classes, classifier.class_names
    )
    assert [each.item is None for each in told] == [False, False, False, True, True]
    assert told[3] == PushedPrototype(
        3, 2, None, "", -1, None, None, "no image of the class 'c' could be read"
    )
    after = project(classifier.network.prototypes[...], found, told)
    assert np.isfinite(after).all()
    np.testing.assert_array_equal(after[3:], classifier.network.prototypes[3:])


@pytest.mark.slow
def test_more_prototypes_than_patches_share_them(classifiers):
    module = network("protopnet", classes=(0,) * 40)
    classifier = Classifier(module, "many", ("a", "b", "c"), PREPROCESSING)
    found = find_nearest(classifier, Noise([0]), batch=4)
    places = {tuple(place) for place in found.positions[:, 0].tolist()}
    assert found.items.tolist() == [[0]] * 40
    assert len(places) < 40
    assert all(0 <= row < 8 and 0 <= column < 8 for row, column in places)


@pytest.mark.slow
def test_a_dead_prototype_is_not_pushed_and_gives_no_nan():
    """Of an occurrence map that is zero everywhere there is no feature, and nothing to become."""
    module = network("xprotonet", classes=(0, 1, 2))
    module.occurrence[-1].kernel[...] = (
        module.occurrence[-1].kernel[...].at[..., 1].set(0.0)
    )
    classifier, source = (
        Classifier(module, "dead", ("a", "b", "c"), PREPROCESSING),
        Noise(LABELS),
    )
    found = find_nearest(classifier, source, batch=4)
    told = push_records(found, source, module.prototype_classes, classifier.class_names)
    assert [each.item is None for each in told] == [False, True, False]
    assert told[1].reason == "it occurs in no image of the class 'b'"
    after = project(module.prototypes[...], found, told)
    np.testing.assert_array_equal(after[1], module.prototypes[1])
    assert np.isfinite(after).all()
    assert np.isfinite(found.distances).all()


def test_equal_patches_are_the_first(classifiers):
    """Two copies of one image: the first is taken, whichever batch the second is in."""

    class Twice(Noise):
        def __getitem__(self, index):
            return (
                super()
                .__getitem__(index % 3)
                ._replace(id=f"noise/{index}", label=self.labels[index])
            )

    for batch in (4, 9):
        found = find_nearest(
            classifiers["protopnet"], Twice([0] * 9), own_class=False, k=3, batch=batch
        )
        assert (found.items[:, 0] < 3).all()
        assert (found.items % 3 == found.items[:, :1]).all()
        assert (np.diff(found.items, axis=1) == 3).all()


@pytest.mark.slow
def test_images_of_several_classes_have_the_label_of_the_prototype():
    class Several(Noise):
        multi_hot = np.asarray([[1, 0, 1], [0, 1, 1], [0, 0, 0]], np.float32)

        def __getitem__(self, index):
            return (
                super().__getitem__(index)._replace(label=-1, labels=self.multi_hot[index])
            )

    module = network("protopnet", classes=(0, 1, 2))
    found = find_nearest(
        Classifier(module, "several", ("a", "b", "c"), PREPROCESSING),
        Several([0, 0, 0]),
        k=3,
        batch=4,
    )
    assert [set(row) - {-1} for row in found.items.tolist()] == [{0}, {1}, {0, 1}]
    assert found.labels[:, 0].tolist() == [0, 1, 2]
    every = find_nearest(
        Classifier(module, "several", ("a", "b", "c"), PREPROCESSING),
        Several([0, 0, 0]),
        k=3,
        own_class=False,
        batch=4,
    )
    labels = {
        (j, item): label
        for j in range(3)
        for item, label in zip(every.items[j].tolist(), every.labels[j].tolist())
    }
    assert labels == {
        (0, 0): 0,
        (0, 1): 1,
        (0, 2): -1,
        (1, 0): 0,
        (1, 1): 1,
        (1, 2): -1,
        (2, 0): 2,
        (2, 1): 2,
        (2, 2): -1,
    }
    assert every.own.sum(axis=1).tolist() == [1, 1, 2]


def test_a_search_can_be_watched_and_ended(classifiers):
    seen = []
    find_nearest(
        classifiers["protopnet"],
        Noise(LABELS),
        batch=4,
        on_batch=lambda *numbers: seen.append(numbers),
    )
    assert seen == [(4, 11), (8, 11), (11, 11)]

    def stop(done, count):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        find_nearest(classifiers["protopnet"], Noise(LABELS), batch=4, on_batch=stop)


def test_what_cannot_be_searched(classifiers, tiny):
    with pytest.raises(
        InputError, match="has no prototypes: give a protopnet or an xprotonet"
    ):
        find_nearest(
            SimpleNamespace(network=tiny, preprocessing=PREPROCESSING), Noise(LABELS)
        )
    with pytest.raises(
        InputError,
        match=r"no image of noise could be read: mend or replace them \(noise/0 is damaged\)",
    ):
        find_nearest(classifiers["protopnet"], Noise([-2, -2]), batch=4)
    with pytest.raises(InputError, match="k is 0"):
        find_nearest(classifiers["protopnet"], Noise(LABELS), k=0)


# records


RECORD = PushRecord(
    "digits",
    "train",
    (
        PushedPrototype(0, 2, 17, "digits/train/00017", 2, (3, 0), 0.25),
        PushedPrototype(1, 4, None, "", -1, None, None, "no image"),
    ),
    486,
)


def test_a_record_is_read_as_it_was_written(tmp_path):
    assert records.read(tmp_path) is None
    records.write(tmp_path, RECORD)
    assert records.read(tmp_path) == RECORD
    assert (
        json.loads((tmp_path / "prototypes.json").read_text())["pushed"][1]["item"] is None
    )


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"source": 1, "split": 2, "step": 3, "pushed": [{}]}', "\x00"]
)
def test_a_damaged_record_is_one_sentence(tmp_path, text):
    (tmp_path / "prototypes.json").write_text(text)
    with pytest.raises(
        InputError, match=r"prototypes.json is damaged .*run the same training again"
    ):
        records.read(tmp_path)
    wrong = records.to_json(RECORD)
    wrong["pushed"].reverse()
    (tmp_path / "prototypes.json").write_text(json.dumps(wrong))
    with pytest.raises(InputError, match="not in order"):
        records.read(tmp_path)


# pruning


def test_prototypes_of_other_classes_are_dropped_but_each_class_keeps_one():
    own = np.asarray(
        [[1, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], bool
    )
    distances = np.asarray(
        [[1.0], [1.0], [1.0], [2.0], [1.0], [0.5], [0.5]], np.float32
    ) + np.zeros(3, np.float32)
    classes = (0, 0, 0, 1, 1, 2, 2)
    assert prototypes_to_keep(own, distances, classes, 2) == (
        0,
        1,
        4,
        5,
    )  # most of its own class, then the nearest, then the first
    assert prototypes_to_keep(own, distances, classes, 0) == tuple(range(7))
    assert prune_record(
        PushRecord(
            "s",
            "t",
            tuple(
                PushedPrototype(j, c, j, "", c, None, 0.0) for j, c in enumerate(classes)
            ),
            1,
        ),
        (1, 4),
    ) == (
        PushRecord(
            "s",
            "t",
            (
                PushedPrototype(0, 0, 1, "", 0, None, 0.0),
                PushedPrototype(1, 1, 4, "", 1, None, 0.0),
            ),
            1,
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["protopnet", "xprotonet"])
def test_the_pruned_network_says_what_the_whole_one_says_of_the_prototypes_left(
    classifiers, name
):
    whole, keep = classifiers[name].network, (0, 2, 4)
    below = {"widths": [4, 8], "depths": [1, 1]}

    def construct():
        given = {"prototype_classes": (0, 1, 2), "width": 6, "backbone_arguments": below}
        return build(name, num_classes=3, size=(16, 16), rngs=nnx.Rngs(0), **given)

    smaller = weights.load(
        construct, prune_weights(weights.entries(whole), keep, construct)
    )
    smaller = nnx.view(
        smaller, deterministic=True, use_running_average=True, raise_if_not_found=False
    )
    images = jnp.asarray(Noise(LABELS)[0].image[None])
    (logits, ours), (_, theirs) = jax.jit(smaller)(images), jax.jit(whole)(images)
    np.testing.assert_allclose(
        ours["similarities"],
        theirs["similarities"][:, np.asarray(keep)],
        rtol=1e-5,
        atol=1e-6,
    )
    expected = ours["similarities"] @ whole.last_layer.kernel[np.asarray(keep)]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
