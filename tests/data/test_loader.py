"""Batches: a pure function of seed and number, whatever reads them; damaged items are skipped and
named."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_jax import InputError, images
from mdm_jax.data import Augment, Example, open_source
from mdm_jax.data.loader import LoaderConfig, batches_per_epoch, eval_batches, train_batches

SIDE = 8


def to_size(image, size):
    return images.to_array(images.fit(image, size))


fit = partial(to_size, size=(SIDE, SIDE))


class Numbers:
    """`count` images whose gray value and label are their number; those in `damaged` cannot be
    read."""

    name = "numbers"
    class_names = tuple(map(str, range(256)))

    def __init__(self, count, damaged=()):
        self.count, self.damaged = count, set(damaged)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.damaged:
            raise InputError(f"item {index} is damaged")
        return Example(
            str(index), np.full((SIDE, SIDE, 3), index / 255, np.float32), index, None, None
        )


def seen(batch):
    """The numbers in a batch, read from the images."""
    numbers = np.round(batch.images[:, 0, 0, 0] * 255).astype(int)
    assert np.ptp(batch.images, axis=(1, 2, 3)).max() == 0
    return numbers


def take(count, *args, **kwargs):
    iterator = train_batches(*args, **kwargs)
    batches = list(itertools.islice(iterator, count))
    iterator.close()
    return batches


def assert_same(batches, others):
    assert len(batches) == len(others)
    for one, other in zip(batches, others):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 40), size=st.integers(1, 9), limit=st.none() | st.integers(1, 50)
)
def test_evaluation_sees_every_item_once_in_order(count, size, limit):
    batches = list(eval_batches(Numbers(count), LoaderConfig(batch=size, limit=limit), fit))
    labels = np.concatenate([batch.labels[batch.valid] for batch in batches])
    used = min(count, limit or count)
    assert len(batches) == -(-used // size)
    assert all(batch.images.shape == (size, SIDE, SIDE, 3) for batch in batches)
    np.testing.assert_array_equal(labels, [i * count // used for i in range(used)])
    np.testing.assert_array_equal(
        np.concatenate([seen(batch)[batch.valid] for batch in batches]), labels
    )


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(count=st.integers(3, 40), size=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_an_epoch_of_training_sees_no_item_twice_and_epochs_differ(count, size, seed):
    source, loading = Numbers(count), LoaderConfig(batch=size, seed=seed)
    each = batches_per_epoch(source, loading)
    assert each == count // size
    batches = take(2 * each, source, loading, fit)
    first, second = (
        np.concatenate([seen(batch) for batch in batches[i : i + each]]) for i in (0, each)
    )
    for epoch in (first, second):
        assert len(set(epoch)) == each * size
    assert count < 12 or not np.array_equal(first, second)
    assert all(
        np.array_equal(seen(batch), batch.labels) and batch.valid.all() for batch in batches
    )


def test_same_seed_same_batches_and_resuming_is_exact():
    source, augment = (
        open_source("digits", "train"),
        Augment(crop=0.5, flip=True, color=0.3, shift=0.1),
    )
    loading = LoaderConfig(batch=3, limit=10, seed=7)
    batches = take(7, source, loading, fit, augment)
    assert_same(batches, take(7, source, loading, fit, augment))
    for start in (1, 3, 5):  # within and beyond the first epoch of 3 batches
        assert_same(
            batches[start:], take(7 - start, source, loading, fit, augment, start=start)
        )
    other = take(7, source, LoaderConfig(batch=3, limit=10, seed=8), fit, augment)
    assert not np.array_equal(batches[0].images, other[0].images)
    assert not np.array_equal(batches[0].images, take(1, source, loading, fit)[0].images)


def test_an_item_is_augmented_anew_in_each_epoch():
    source = open_source("digits", "train")
    batches = take(3, source, LoaderConfig(batch=1, limit=1), fit, Augment(crop=0.5))
    assert not np.array_equal(batches[0].images, batches[1].images)
    assert not np.array_equal(batches[1].images, batches[2].images)


@pytest.mark.slow
def test_processes_give_the_same_batches_and_end(tmp_path):
    for number in range(7):
        (tmp_path / f"class{number % 2}").mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (12, 16, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"class{number % 2}" / f"{number}.png")
    (tmp_path / "class0" / "9.png").write_bytes(b"no image")
    (tmp_path / "val" / "class0").mkdir(parents=True)
    (tmp_path / "train").mkdir()
    for name in ("class0", "class1"):
        (tmp_path / name).rename(tmp_path / "train" / name)
    source, augment = (
        open_source(f"folder:{tmp_path}", "train"),
        Augment(crop=0.5, flip=True),
    )
    threads, processes = (
        take(6, source, LoaderConfig(batch=3, workers=workers), fit, augment, start=1)
        for workers in (0, 1)
    )
    assert_same(threads, processes)
    assert any(batch.skipped for batch in processes)
    evaluated = [
        list(eval_batches(source, LoaderConfig(batch=3, workers=workers), fit))
        for workers in (0, 1)
    ]
    assert_same(*evaluated)
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(signal, "pthread_sigmask"), reason="needs the signals of POSIX"
)
def test_processes_ignore_ctrl_c_and_one_that_dies_is_a_sentence():
    interrupted = []

    def interrupt():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.001)
        os.kill(children[0].pid, signal.SIGINT)  # while it starts
        interrupted.extend(children)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    batches = train_batches(
        open_source("digits", "train"), LoaderConfig(batch=2, workers=1), fit
    )
    assert next(batches).valid.all()
    thread.join()
    os.kill(interrupted[0].pid, signal.SIGINT)
    for _ in range(10):  # more than are read ahead
        assert next(batches).valid.all()
    assert interrupted[0].is_alive()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    os.kill(interrupted[0].pid, signal.SIGKILL)
    with pytest.raises(
        InputError, match=r"a process that loads images died.*: lower data.workers"
    ):
        list(batches)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs the signals of POSIX")
def test_processes_end_with_a_parent_that_is_killed():
    program = (
        "import multiprocessing, os, signal\n"
        "from mdm_jax import images\n"
        "from mdm_jax.data import open_source\n"
        "from mdm_jax.data.loader import LoaderConfig, train_batches\n"
        "batches = train_batches(open_source('digits', 'train'), LoaderConfig(batch=2,"
        " workers=2), images.to_array)\n"
        "next(batches)\n"
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )
    children = [int(pid) for pid in done.stdout.split()]
    assert len(children) == 2
    until = time.monotonic() + 10
    while (left := [pid for pid in children if runs(pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def runs(pid):
    """Whether a process is there and no zombie."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_threads_end_when_the_consumer_stops():
    def readers():
        return {thread for thread in threading.enumerate() if "grain" in thread.name}

    others = readers()
    for _ in train_batches(Numbers(20), LoaderConfig(batch=2), fit):
        ours = readers() - others
        assert ours
        break
    for thread in ours:
        thread.join(5)
    assert not readers() - others


@pytest.mark.slow
def test_a_program_that_leaves_an_iterator_open_ends():
    program = (
        "from mdm_jax import images\n"
        "from mdm_jax.data import open_source\n"
        "from mdm_jax.data.loader import LoaderConfig, train_batches\n"
        "batches = train_batches(open_source('digits', 'train'), LoaderConfig(batch=2),"
        " images.to_array)\n"
        "print(next(batches).images.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "(2, 64, 64, 3)\n", "")


def test_damaged_items_are_skipped_and_repeat_another_image():
    source = Numbers(9, damaged={2, 5})
    batches = take(6, source, LoaderConfig(batch=3), fit)
    for epoch in (batches[:3], batches[3:]):
        sentences = [sentence for batch in epoch for sentence in batch.skipped]
        assert sorted(sentences) == ["item 2 is damaged", "item 5 is damaged"]
        assert sum((~batch.valid).sum() for batch in epoch) == 2
    for batch in batches:
        np.testing.assert_array_equal(
            seen(batch), batch.labels
        )  # a slot that repeats has that image's label
        assert set(seen(batch)[~batch.valid]) <= set(seen(batch)[batch.valid])
    evaluated = list(eval_batches(source, LoaderConfig(batch=4), fit))
    np.testing.assert_array_equal(
        np.concatenate([b.labels[b.valid] for b in evaluated]), [0, 1, 3, 4, 6, 7, 8]
    )
    assert [len(batch.skipped) for batch in evaluated] == [1, 1, 0]


def test_a_batch_of_which_nothing_can_be_read_is_black_and_invalid():
    source = Numbers(4, damaged=range(4))
    for batch in [
        *take(3, source, LoaderConfig(batch=2), fit),
        *eval_batches(source, LoaderConfig(batch=3), fit),
    ]:
        assert not batch.valid.any()
        assert batch.images.shape[1:] == (SIDE, SIDE, 3)
        assert batch.images.max() == 0
        assert batch.skipped


def test_only_input_errors_are_skipped():
    class Broken(Numbers):
        def __getitem__(self, index):
            raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        take(1, Broken(4), LoaderConfig(batch=2), fit)


def test_a_fit_that_cannot_work_fails_at_the_call():
    def five_channels(image):
        raise InputError("the network takes 5 channels")

    with pytest.raises(InputError, match="5 channels"):
        train_batches(Numbers(4), LoaderConfig(batch=2), five_channels)


def test_gray_networks_get_one_channel():
    (batch,) = take(
        1, Numbers(4), LoaderConfig(batch=2), lambda image: fit(image.convert("L"))
    )
    assert batch.images.shape == (2, SIDE, SIDE, 1)


@pytest.mark.parametrize(
    ("loading", "start", "sentence"),
    [
        (
            LoaderConfig(batch=9),
            0,
            "numbers gives 4 items, less than one batch of 9: give a smaller batch",
        ),
        (LoaderConfig(batch=4, limit=3), 0, "gives 3 items"),
        (LoaderConfig(batch=0), 0, "batch is 0"),
        (LoaderConfig(batch=2, workers=-1), 0, "workers is -1"),
        (LoaderConfig(batch=2, seed=-1), 0, "seed is -1"),
        (LoaderConfig(batch=2, limit=0), 0, "limit is 0"),
        (LoaderConfig(batch=2), -1, "start is -1"),
    ],
)
def test_requests_out_of_range(loading, start, sentence):
    with pytest.raises(InputError, match=sentence):
        train_batches(Numbers(4), loading, fit, start=start)


def test_an_empty_source_and_bad_augmentation_are_refused():
    with pytest.raises(InputError, match="numbers has no items"):
        eval_batches(Numbers(0), LoaderConfig(), fit)
    with pytest.raises(InputError, match="crop is 2"):
        train_batches(Numbers(4), LoaderConfig(batch=2), fit, Augment(crop=2.0))
