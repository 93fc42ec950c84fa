"""Reading ahead: in order, bounded, the same whoever reads; whatever is wrong with an item is a
sentence in its place."""

import itertools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from bad_images import make_bad_images, without_rights
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_jax import InputError, images
from mdm_jax.data import Example, open_source
from mdm_jax.data.item_reader import AHEAD, LONGEST, read_items
from mdm_jax.text_files import file_id

SIDE = 8
pytestmark = pytest.mark.filterwarnings(
    "ignore::PIL.Image.DecompressionBombWarning"
)  # pytest drops the filter of images.py


def to_size(image, size):
    return images.to_array(images.fit(image, size))


fit = partial(to_size, size=(SIDE, SIDE))


class Numbers:
    """Images whose gray value and label are their number; of the others something else becomes."""

    name = "numbers"
    class_names = tuple(map(str, range(256)))

    def __init__(self, count=256, others=None, pause=0.0):
        self.count, self.others, self.pause, self.read = count, others or {}, pause, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        time.sleep(self.pause)
        self.read.append(index)
        other = self.others.get(index)
        if isinstance(other, BaseException):
            raise other
        if isinstance(other, Example):
            return other
        image = (
            np.full((SIDE, SIDE, 3), index % 256 / 255, np.float32)
            if other is None
            else other
        )
        return Example(str(index), image, index % 256, None, None)


def assert_same(reads, others):
    assert [read._replace(image=None) for read in reads] == [
        read._replace(image=None) for read in others
    ]
    for one, other in zip(reads, others):
        np.testing.assert_array_equal(one.image, other.image)


@settings(max_examples=25, deadline=None)
@given(
    order=st.lists(st.integers(0, 255), max_size=90),
    damaged=st.sets(st.integers(0, 255)),
    threads=st.integers(1, 5),
    own=st.booleans(),
)
def test_items_come_in_order_whatever_the_threads(order, damaged, threads, own):
    source = Numbers(
        others={index: InputError(f"item {index} is damaged") for index in damaged}
    )
    items = list(enumerate(order, start=7))
    reads = list(read_items(source, items, None if own else fit, threads=threads))
    assert [(read.item, read.index) for read in reads] == items
    for read in reads:
        if read.index in damaged:
            assert read[2:] == (
                f"numbers/{read.index:06d}",
                None,
                -1,
                f"item {read.index} is damaged",
            )
        else:
            assert (read.id, read.label, read.reason) == (str(read.index), read.index, "")
            np.testing.assert_allclose(
                read.image, np.full((SIDE, SIDE, 3), read.index / 255), atol=1e-6
            )
            assert read.image.dtype == np.float32


@pytest.mark.slow
def test_processes_read_the_same_and_end(tmp_path):
    make_bad_images(tmp_path)
    source = open_source(f"folder:{tmp_path}", "val")
    items = list(enumerate(list(range(len(source))) * 3))
    by_threads, by_processes = (
        list(read_items(source, items, fit, number)) for number in (0, 2)
    )
    assert_same(by_threads, by_processes)
    assert not multiprocessing.active_children()
    until = time.monotonic() + 5
    while (
        left := shared_memory()
    ) and time.monotonic() < until:  # grain frees it in a thread
        time.sleep(0.05)
    assert not left
    reads = read_items(source, items, fit, 2)
    assert_same([next(reads)], by_threads[:1])
    assert shared_memory() or not Path("/dev/shm").exists()
    processes = multiprocessing.active_children()
    assert len(processes) == 2
    start = time.monotonic()
    reads.close()
    assert time.monotonic() - start < 10
    assert not any(process.is_alive() for process in processes)


def shared_memory():
    """How often memory shared with other processes is mapped into this one, where the system
    tells."""
    maps = Path("/proc/self/maps")
    return maps.read_text().count("/psm_") if maps.exists() else 0


def test_a_bounded_number_is_read_ahead_and_threads_end():
    source = Numbers(100_000)
    others = {thread for thread in threading.enumerate() if "grain" in thread.name}
    reads = read_items(source, [(i, i) for i in range(len(source))], fit, threads=2)
    for count in (1, 50):
        list(itertools.islice(reads, count))
    time.sleep(0.2)
    assert 51 <= len(source.read) <= 51 + AHEAD
    ours = {thread for thread in threading.enumerate() if "grain" in thread.name} - others
    assert len(ours) == 2
    reads.close()
    for thread in ours:
        thread.join(5)
        assert not thread.is_alive()
    assert len(source.read) <= 51 + AHEAD


def test_nothing_to_read_and_a_request_that_cannot_be():
    for workers in (0, 1):
        assert list(read_items(Numbers(), [], fit, workers)) == []
    with pytest.raises(InputError, match="workers is -1"):
        read_items(Numbers(), [(0, 0)], fit, -1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("gone"), "KeyError: 'gone'"),
        (StopIteration(), "StopIteration"),
        (SystemExit(3), "SystemExit: 3"),
        (MemoryError(), "MemoryError"),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (ValueError("two\n   lines \x1b[31m\udcff"), "ValueError: two lines ?[31m?"),
        (ValueError("x" * 9999), "ValueError: " + "x" * (LONGEST - 13) + "…"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_a_source_raises_is_a_reason(error, reason):
    reads = list(read_items(Numbers(others={1: error}), [(0, 0), (1, 1), (2, 2)], fit))
    assert [read.reason for read in reads] == ["", reason, ""]
    assert reads[1].image is None


def test_what_a_fit_raises_is_a_reason_and_the_image_keeps_its_name():
    def no_dark_ones(image):
        if image.getpixel((0, 0))[0] == 1:
            raise ZeroDivisionError("dark")
        return fit(image)

    reads = list(read_items(Numbers(), [(0, 0), (1, 1)], no_dark_ones))
    assert reads[1] == (1, 1, "1", None, 1, "ZeroDivisionError: dark")
    assert reads[0].reason == ""


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (
            np.full((SIDE, SIDE, 3), 200, np.uint8),
            "1 is uint8: give floats in [0, 1], for 8-bit images image / 255",
        ),
        (
            np.full((SIDE, SIDE, 3), 200.0),
            "1 has values from 200 to 200: images lie in [0, 1]",
        ),
        (np.full((SIDE, SIDE, 3), np.nan), "1 holds NaN or infinite values"),
        (
            np.zeros((SIDE, SIDE)),
            "1 has shape (8, 8): give [height, width, channels], 8 pixels a side or more",
        ),
        (
            np.zeros((SIDE, 1, 3)),
            "1 has shape (8, 1, 3): give [height, width, channels], 8 pixels a side or more",
        ),
        ("text", "1 has shape (): give [height, width, channels], 8 pixels a side or more"),
    ],
    ids=["8-bit", "range", "nan", "flat", "thin", "text"],
)
def test_arrays_that_are_no_images(image, reason):
    for own in (None, fit):
        reads = list(read_items(Numbers(others={1: image}), [(0, 0), (1, 1), (2, 2)], own))
        assert [read.reason for read in reads] == ["", reason, ""]


def test_a_source_with_images_of_its_own_size():
    float64, wide, gray = (
        np.full(shape, 0.5) for shape in ((SIDE, SIDE, 3), (SIDE, 9, 3), (SIDE, SIDE, 1))
    )
    source = Numbers(others={0: float64, 1: wide, 2: gray})
    reads = list(
        read_items(source, [(i, i) for i in range(4)], None, shape=(SIDE, SIDE, 3))
    )
    assert [read.reason for read in reads] == [
        "",
        "1 has shape (8, 9, 3), not (8, 8, 3): bring all images to one size",
        "2 has shape (8, 8, 1), not (8, 8, 3): bring all images to one size",
        "",
    ]
    assert reads[0].image.dtype == np.float32
    assert not np.shares_memory(reads[0].image, float64)
    (read,) = read_items(source, [(2, 2)], None)
    assert read.image.shape == (SIDE, SIDE, 1)
    (read,) = read_items(source, [(2, 2)], fit)
    assert read.reason == "2 has 1 channels: a source gives RGB, [height, width, 3]"


def test_names_and_labels_of_strangers():
    image = np.zeros((SIDE, SIDE, 3), np.float32)
    odd = [
        ("<b>\n\x1b\udce9 ü.png", "<b>\n\x1b\\udce9 ü.png", None, -1),
        (17, "17", -5, -1),
        ("a", "a", np.int64(3), 3),
    ]
    others = {
        i: Example(given, image, label, None, None)
        for i, (given, _, label, _) in enumerate(odd)
    }
    reads = list(read_items(Numbers(others=others), [(i, i) for i in range(len(odd))], fit))
    assert [(read.id, read.label) for read in reads] == [
        (shown, label) for _, shown, _, label in odd
    ]
    others[0] = Example("a", image, "cat", None, None)
    (read,) = read_items(Numbers(others=others), [(0, 0)], fit)
    assert read.reason.startswith("ValueError: invalid literal for int()")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs the signals of POSIX")
def test_a_process_that_dies_is_a_sentence():
    reads = read_items(
        open_source("digits", "test"), [(i, i) for i in range(10_000)], fit, 1
    )
    assert next(reads).reason == ""
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(
        InputError, match=r"a process that reads images died, .* use fewer workers, or 0"
    ):
        list(reads)


@pytest.mark.slow
def test_a_source_that_cannot_be_sent_to_processes_is_a_sentence():
    source = Numbers(others={0: threading.Lock()})
    with pytest.raises(
        InputError,
        match=r"numbers cannot be sent to other processes \(TypeError: .*: use 0 workers",
    ):
        next(read_items(source, [(0, 1)], fit, 1))
    (read,) = read_items(source, [(0, 1)], fit)
    assert read.reason == ""


def test_twelve_kinds_of_bad_images(tmp_path):
    expected = make_bad_images(tmp_path)
    source = open_source(f"folder:{tmp_path}", "val")
    assert source.files == tuple(expected)
    reads = list(
        read_items(
            source,
            [(i, i) for i in range(len(source))],
            partial(to_size, size=(32, 48)),
            threads=2,
        )
    )
    for read, (file, what) in zip(reads, expected.items(), strict=True):
        assert read.id == file_id(file)
        assert read.label == source.labels[read.index]
        if what.readable:
            assert read.reason == ""
            assert what.matches(read.image), file
        elif not (what.only_without_rights and os.access(tmp_path / file, os.R_OK)):
            assert read.image is None
            assert "\n" not in read.reason
            assert read.reason.startswith(images.printable(tmp_path / file))
            assert re.search(what.reason, read.reason)
    alike = [read for read in reads if "strange" in read.id]
    assert len(alike) in {0, 2}  # none where the system refuses such names
    if alike:
        assert alike[0].id != alike[1].id
        assert alike[0].item != alike[1].item
        assert not np.array_equal(alike[0].image, alike[1].image)


def test_drawings_and_values_that_are_not_finite_are_refused(tmp_path):
    PIL.Image.new("RGB", (20, 20)).save(tmp_path / "drawing.eps")
    (tmp_path / "drawing.eps").rename(tmp_path / "drawing.png")
    PIL.Image.fromarray(np.full((20, 20), np.nan, np.float32)).save(tmp_path / "nan.tiff")
    for name, sentence in {
        "drawing.png": r"is a drawing \(EPS\)",
        "nan.tiff": "holds NaN or infinite values",
    }.items():
        with pytest.raises(InputError, match=sentence):
            images.read(tmp_path / name)


READ_THEM = """
import resource, sys
from mdm_jax import images
from mdm_jax.data import open_source
from mdm_jax.data.item_reader import read_items
source = open_source(f"folder:{sys.argv[1]}", "val")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for read in read_items(source, [(i, i) for i in range(len(source))], images.to_array):
    print(read.id, read.reason)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="gives up the rights of root as Linux has them"
)
def test_without_rights_and_without_the_memory_of_huge_images(tmp_path):
    expected = make_bad_images(tmp_path)
    command = without_rights([sys.executable, "-c", READ_THEM, str(tmp_path)])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    *lines, megabytes = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    for line, (file, what) in zip(lines, expected.items(), strict=True):
        assert line.removeprefix(file_id(file)).startswith(
            f" {images.printable(tmp_path)}" if what.reason else " "
        )
        assert re.search(what.reason, line)
    assert int(megabytes) < 60  # the huge one decoded takes 432
