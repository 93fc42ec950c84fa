"""Weights as safetensors in timm's names and torch's layout, read straight into an abstract Flax NNX module."""

from __future__ import annotations

import os
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

Module = TypeVar("Module", bound=nnx.Module)

_LEAF_NAMES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def read(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file by name. Raises InputError for anything else; never unpickles."""
    if path.suffix in {".pth", ".pt", ".bin", ".ckpt", ".pkl"}:
        raise InputError(f"{path} is a pickle, which can run code when opened: convert it to safetensors first")
    if not os.path.isfile(path):  # unlike Path's own, false for a name that is too long
        raise InputError(f"no weights at {path}: give a safetensors file or a folder with config.json and model.safetensors")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error})") from error


def load(construct: Callable[[], Module], arrays: Mapping[str, np.ndarray]) -> Module:
    """The module that `construct` describes, filled with `arrays` without being initialised first.

    Raises InputError naming the first missing, unexpected, misshapen or non-finite entry.
    """
    graphdef, state = nnx.split(nnx.eval_shape(construct))
    wanted = {_torch_name(path): (path, leaf) for path, leaf in nnx.to_flat_state(state)}
    given = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    if missing := sorted(wanted.keys() - given.keys()):
        raise InputError(f"the weights lack {missing[0]!r} ({len(missing)} entries missing): they are of another network")
    if unexpected := sorted(given.keys() - wanted.keys()):
        raise InputError(f"the weights hold {unexpected[0]!r}, unknown to this network ({len(unexpected)} such entries)")
    filled = []
    for name, (path, leaf) in wanted.items():
        array = _from_torch(given[name], path[-1])
        if array.shape != leaf.shape:
            raise InputError(f"weight {name!r} has shape {given[name].shape}, this network needs {leaf.shape} (ours)")
        if not np.isfinite(array).all():
            raise InputError(f"weight {name!r} holds NaN or infinite values: the file is damaged or training diverged")
        filled.append((path, leaf.replace(jnp.asarray(array, leaf.dtype))))
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def save(module: nnx.Module, path: Path) -> None:
    """Write every parameter and batch statistic of a module as safetensors in timm's names and torch's layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = nnx.to_flat_state(nnx.state(module, (nnx.Param, nnx.BatchStat)))
    save_file({_torch_name(p): _to_torch(np.asarray(jax.device_get(v[...])), p[-1]) for p, v in flat}, path)


def _torch_name(path: tuple[Any, ...]) -> str:
    return ".".join([*map(str, path[:-1]), _LEAF_NAMES.get(str(path[-1]), str(path[-1]))])


def _from_torch(array: np.ndarray, leaf: Any) -> np.ndarray:
    """Convolutions OIHW -> HWIO, linear (out, in) -> (in, out); everything else as it is."""
    if leaf != "kernel":
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _to_torch(array: np.ndarray, leaf: Any) -> np.ndarray:
    if leaf == "kernel":
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return np.ascontiguousarray(array)
