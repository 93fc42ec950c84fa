"""Small networks and images that the tests share: few shapes, so that little is compiled."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from flax import nnx
from jax.experimental.compilation_cache import compilation_cache

from mdm_jax import MDMConfig
from mdm_jax.models.resnet import ResNet

# XLA optimizes little of what the tests compile: tiny networks run for milliseconds and compile for
# seconds. The newer emitters of fused loops take about twice as long to compile, and are no faster
# where little is optimized. For the programs that tests start as well.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
jax.config.update("jax_disable_most_optimizations", True)
QUICK_COMPILATION = "--xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_COMPILATION}".strip()

# Commands that tests start keep nothing in the user's folder.
os.environ["MDM_JAX_COMPILE_CACHE"] = "off"

# A suite that is started in the background of a shell, or by nohup, ignores these signals, and so
# would the commands that the tests start and interrupt.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

LONG = (
    "test_notebooks",
    "test_run_processes",
    "test_sweep",
    "test_sweep_cli",
    "test_hdm",
    "test_bfloat16",
    "test_jax_settings",
    "test_accelerator",
    "test_timm_parity",
    "test_real_networks",
)
"""files of few tests that take long"""


def pytest_collection_modifyitems(items):
    """Long files first, then those of many tests: two workers that each take a whole file (see the
    Makefile) end together."""
    counts = Counter(item.path.stem for item in items)
    items.sort(
        key=lambda item: (
            item.path.stem not in LONG,
            -counts[item.path.stem],
            item.path.stem,
        )
    )


PATCH = (slice(8, 16), slice(16, 24))
"""rows and columns that the patch network looks at"""


def patch_network(images):
    """Two logits; the first is the brightness of one patch, the second is fixed. Only the patch
    matters."""
    inside = images[:, *PATCH, :].mean((1, 2, 3))
    return jnp.stack([8.0 * inside - 3.0, jnp.zeros_like(inside)], axis=-1)


def unchecked(cls, **values):
    """A config as a program without a type checker makes it; the tests' checker would refuse values
    outside of a `Literal` before the config's own check does."""
    config = cls()
    for name, value in values.items():
        object.__setattr__(config, name, value)
    return config


COLORS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Three classes of noisy colors, 16 images each to train on and 5 to measure, 16x16."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 5)):
        for name, color in COLORS.items():
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(rng.normal(color, 40, (16, 16, 3)), 0, 255).astype(
                    np.uint8
                )
                PIL.Image.fromarray(pixels).save(folder / split / name / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """Trainings of one shape share compiled code, those in other processes too."""
    folder = str(tmp_path_factory.mktemp("compiled"))
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    for name, value in zip(names, (folder, 0.0)):
        jax.config.update(name, value)
    yield folder
    for name, value in zip(names, before):
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # otherwise it goes on writing to the folder


MEMORY_REGIONS = 20_000
"""A process may have 65,530. A compiled program takes several, and a compiler that gets no more of
them ends the process."""


@pytest.fixture(scope="module", autouse=True)
def programs_are_let_go():
    """After a file, where it and those before it have compiled very much."""
    yield
    regions = Path("/proc/self/maps")
    if regions.exists() and len(regions.read_text().splitlines()) > MEMORY_REGIONS:
        jax.clear_caches()


@pytest.fixture(scope="module")
def compiled_in_earnest():
    """What these tests compile is optimized as it is for a user."""
    jax.clear_caches()  # the flag is no part of what compiled functions are known by
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()


@pytest.fixture(scope="session")
def images():
    """Three gray images, 32x32x3, bright in the patch."""
    drawn = np.random.default_rng(0).uniform(0.0, 0.3, (3, 32, 32, 3)).astype(np.float32)
    drawn[:, *PATCH, :] += 0.6
    return drawn


@pytest.fixture(scope="session")
def tiny():
    """A residual network with random weights on 32x32 images, in inference mode, that is sure of
    what it says."""
    network = ResNet(num_classes=3, widths=(4, 8), depths=(1, 1), rngs=nnx.Rngs(0))
    network.fc.kernel[...] *= 30.0
    return nnx.view(
        network, deterministic=True, use_running_average=True, raise_if_not_found=False
    )


@pytest.fixture(scope="session")
def quick():
    """A config of few steps."""
    return MDMConfig(sizes=(4, 8), steps=4)


@pytest.fixture
def key():
    return jax.random.key(0)


class Compilations:
    """Counts what XLA compiles while it is open."""

    def __enter__(self):
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def _listen(self, event, duration_secs, **_):
        self.count += event == "/jax/core/compile/backend_compile_duration"

    def __exit__(self, *_):
        jax.monitoring.unregister_event_duration_listener(self._listen)


@pytest.fixture
def compilations():
    return Compilations()
