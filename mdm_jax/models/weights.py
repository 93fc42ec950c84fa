"""Weights as arrays in timm's names and torch's layout, read into an abstract Flax NNX module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.models.weight_names import timm_names

Module = TypeVar("Module", bound=nnx.Module)

ANOTHER = "they are of another network or variant: name the right one"
_LEAF_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def read(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file by name.

    Raises InputError for anything else; never unpickles."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{printable(path)} is not a readable safetensors file ({error})"
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # A number format that numpy lacks, such as float8.
        raise InputError(
            f"{printable(path)} holds numbers of a format that cannot be read ({error}): convert"
            " it to float32"
        ) from error


def fill(network: Module, arrays: Mapping[str, np.ndarray]) -> Module:
    """A module of shapes only (of `nnx.eval_shape`) with `arrays` in place of the shapes, as numpy.

    Raises InputError naming the first missing, unexpected, misshapen, non-numeric or non-finite
    entry."""
    wanted, given = places(network), timm_names(arrays)
    missing = sorted(wanted.keys() - given.keys())
    unexpected = sorted(given.keys() - wanted.keys())
    if missing:
        others = f" and hold {unexpected[0]!r}" if unexpected else ""
        raise InputError(
            f"the weights lack {missing[0]!r} ({len(missing)} entries missing){others}: {ANOTHER}"
        )
    if unexpected:
        raise InputError(
            f"the weights hold {unexpected[0]!r}, unknown to this network ({len(unexpected)} such):"
            f" {ANOTHER}"
        )
    filled = []
    for name, (path, leaf) in wanted.items():
        array = _fitting_array(name, given[name], path[-1], leaf)
        filled.append((path, leaf.replace(array)))
    return nnx.merge(nnx.graphdef(network), nnx.from_flat_state(filled))


def _fitting_array(name: str, given: np.ndarray, kind: Any, leaf: Any) -> np.ndarray:
    """An entry in the layout and number format of a leaf. Raises InputError as `fill` does."""
    array = _from_torch(given, kind)
    if array.shape != leaf.shape:
        needed = torch_shape(leaf.shape, kind)
        raise InputError(
            f"weight {name!r} has shape {given.shape}, this network needs {needed}: {ANOTHER}"
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(
            f"weight {name!r} is {array.dtype}: quantized weights are not supported, give"
            " floating-point ones"
        )
    array = np.ascontiguousarray(array, leaf.dtype)
    # After the cast: a value may overflow in it.
    if not np.isfinite(array).all():
        raise InputError(
            f"weight {name!r} holds NaN or infinite values: the file is damaged or training"
            " diverged"
        )
    return array


def load(construct: Callable[[], Module], arrays: Mapping[str, np.ndarray]) -> Module:
    """The module that `construct` describes, with `arrays` on the device.

    It is not initialized first, which would take longer than to load it. Raises InputError as
    `fill` does."""
    return jax.tree.map(jnp.asarray, fill(nnx.eval_shape(construct), arrays))


def places(module: nnx.Module) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Path and leaf of every parameter and batch statistic by timm's name.

    Also of a module that is only shapes."""
    # Only these: keys and counts of dropout are no weights.
    flat = nnx.to_flat_state(nnx.state(module, (nnx.Param, nnx.BatchStat)))
    return {_torch_name(path): (path, leaf) for path, leaf in flat}


def save(module: nnx.Module, path: Path) -> None:
    """Write the `entries` of a module as safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(entries(module), path)


def entries(module: nnx.Module) -> dict[str, np.ndarray]:
    """Every parameter and batch statistic of a module by timm's name, in torch's layout.

    This is what `fill` takes."""
    arrays = {}
    for name, (path, variable) in places(module).items():
        array = np.asarray(jax.device_get(variable[...]))
        arrays[name] = _to_torch(array, path[-1])
    return arrays


def _torch_name(path: tuple[Any, ...]) -> str:
    *modules, leaf = map(str, path)
    return ".".join([*modules, _LEAF_NAMES.get(leaf, leaf)])


def _from_torch(array: np.ndarray, leaf: Any) -> np.ndarray:
    """Convolutions OIHW -> HWIO, linear (out, in) -> (in, out); everything else as it is."""
    if leaf != "kernel":
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _to_torch(array: np.ndarray, leaf: Any) -> np.ndarray:
    if leaf == "kernel":
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return np.ascontiguousarray(array)


def torch_shape(shape: tuple[int, ...], leaf: Any) -> tuple[int, ...]:
    """The shape that a leaf of this name and shape has in torch's layout."""
    if leaf != "kernel":
        return shape
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
