"""What the page is about, for all who open it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from mdm_jax.methods import MethodSpec
from mdm_jax.models.classifier import Classifier


@dataclass(frozen=True)
class Look:
    """A photograph and a network, and what keeps two visitors apart."""

    name: str
    """of the photograph"""
    image: np.ndarray
    """float32 [h, w, c] in [0, 1], as the network sees it"""
    classifier: Classifier
    probabilities: np.ndarray
    """of the classes on the image"""
    spec: MethodSpec
    """the method and its settings to begin with"""
    save: Callable[[MethodSpec, int], list[str]]
    """explains by these settings for a class, and writes it; the files"""
    node: str | None = None
    """None: what the method's authors explain"""
    seed: int = 0
    busy: threading.Lock = field(default_factory=threading.Lock)
    """held while something is computed: one at a time"""
    stopping: threading.Event = field(default_factory=threading.Event)
    """set when the server ends"""
    # one thread, so that what is computed never waits for the page, nor the page for it
    worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
