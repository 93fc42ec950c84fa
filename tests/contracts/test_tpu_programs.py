"""What a TPU cannot do, or does slowly, is in no program that a run compiles. They are lowered for
a TPU, which needs none."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdm_jax
from mdm_jax import RunConfig
from mdm_jax.data.digits import Digits
from mdm_jax.runs import compiled, continuous_batching
from mdm_jax.runs.compiled import ExplainRequest
from mdm_jax.runs.plan import prepare

pytestmark = pytest.mark.slow

UNFIT = {
    "float64": re.compile(r"[x<](f64|complex<f64>)"),
    "a call of the host, or of what is not XLA": re.compile(
        r"custom_call|infeed|outfeed|stablehlo\.(send|recv)"
    ),
    "a shape that depends on values": re.compile(r"tensor<[^>]*\?"),
}
"""what a lowered text holds where a program does what a TPU is bad at"""


def unfit(text: str) -> set[str]:
    return {name for name, pattern in UNFIT.items() if pattern.search(text)}


def lowered(function: Any, *arguments: Any, platform: str = "tpu") -> str:
    """What XLA is given to compile for a platform."""
    return (
        jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    )


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The programs of a run: the default preset by the embedded network in bfloat16, eight images
    at a time."""
    classifier = mdm_jax.load_model("resnet", dtype="bfloat16")
    recipe, arrays, key = prepare(
        classifier, Digits("test"), RunConfig(micro_batch=8)
    ).programs[0]
    shapes = jax.ShapeDtypeStruct
    images, eight = shapes((8, 64, 64, 3), np.float32), shapes((8,), np.int32)
    questions = ExplainRequest(images, eight, shapes((8,), np.uint32))
    held = jax.eval_shape(
        partial(continuous_batching._start_slots, recipe), arrays, key, questions
    )
    asked = {
        compiled.explain_rows: (arrays, key, questions),
        continuous_batching.enter: (arrays, key, held, eight, questions),
        continuous_batching.advance: (arrays, held, shapes((1,), np.int32)),
        continuous_batching.leave: (arrays, held, eight),
    }
    return {
        each.__name__: lowered(partial(each, recipe), *arguments)
        for each, arguments in asked.items()
    }


def test_programs_of_a_run_suit_a_tpu(texts):
    assert {name: unfit(text) for name, text in texts.items()} == {
        name: set() for name in texts
    }


def test_what_does_not_suit_would_be_found():
    four = jax.ShapeDtypeStruct((4,), np.float32)
    called = lowered(
        lambda x: jax.pure_callback(np.sin, four, x), four, platform="cpu"
    )  # for others it needs the device
    assert unfit(called) == {"a call of the host, or of what is not XLA"}
    with jax.enable_x64(True):
        assert unfit(lowered(jnp.sin, np.ones(4))) == {"float64"}
    (n,) = jax.export.symbolic_shape("n")
    exported = jax.export.export(jax.jit(jnp.sin))(jax.ShapeDtypeStruct((n,), np.float32))
    assert "a shape that depends on values" in unfit(exported.mlir_module())


def test_the_network_computes_in_bfloat16_and_the_masks_do_not(texts):
    """A TPU rounds the factors of a float32 product to bfloat16 unless it is told otherwise; the
    masks' products are."""
    lines = texts["explain_rows"].splitlines()
    types = {
        line: set(re.findall(r"x(f32|bf16)>", line))
        for line in lines
        if "stablehlo.convolution" in line
    }
    assert len(types) > 10
    assert all(each == {"bf16"} for each in types.values())
    products = [
        line for line in lines if "stablehlo.dot_general" in line and "xf32>" in line
    ]
    assert products
    assert all("HIGHEST" in line for line in products)
