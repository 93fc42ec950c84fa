"""Where weights come from: a folder, a file, a training, or a repository of the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import numpy as np
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.models import weights
from mdm_jax.text_files import parse_json, read_text

PICKLES = {".pth", ".pt", ".bin", ".ckpt", ".pkl"}
HUB_ID = r"(?:hf-hub:|hf_hub:)?([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?"


class StoredWeights(NamedTuple):
    """Weights as they are stored, and what the config.json beside them says."""

    arrays: dict[str, np.ndarray]
    config: dict[str, Any] | None
    """None for a file that has none beside it"""
    name: str
    config_place: str
    """what to call the config in a message"""


def find_weights(place: str | Path) -> StoredWeights:
    """Read the weights at a place, and the config.json beside them.

    `place` is a safetensors file, a folder with config.json and model.safetensors, the folder of a
    training (its newest checkpoint when it has not ended), or a hub id `owner/name[@revision]`,
    answered from the cache where it can be. Raises InputError for what is not there, damaged, a
    pickle, or out of reach."""
    path = Path(place)
    # Unlike Path.is_dir and is_file, os.path's are False for a name that is too long for a path.
    if os.path.isdir(path):
        return _in_folder(path)
    if path.suffix.lower() in PICKLES:
        raise InputError(
            f"{printable(path)} is a pickle, which can run code when opened: convert it to"
            " safetensors first"
        )
    if os.path.isfile(path):
        beside = path.with_name("config.json")
        config = _read_config(beside) if beside.is_file() else None
        return StoredWeights(weights.read(path), config, path.stem, printable(beside))
    hub = re.fullmatch(HUB_ID, str(place).rstrip("/"))
    if hub and path.suffix != ".safetensors":
        return _on_hub(hub[1], hub[2])
    raise InputError(
        f"no weights at {printable(path)}: give a safetensors file, a folder with config.json and"
        " model.safetensors, the folder of a training, or a hub id such as timm/resnet50.tv_in1k"
    )


def _in_folder(folder: Path) -> StoredWeights:
    shown = printable(folder)
    # A training's folder may be named by the checkpoints in it.
    is_inside = (
        folder.name == "checkpoints" and not (folder / "model.safetensors").is_file()
    )
    run = folder.parent if is_inside else folder
    file, config = run / "model.safetensors", run / "config.json"
    if file.is_file():
        arrays = weights.read(file)
    elif (run / "checkpoints").is_dir():
        from mdm_jax.storage import checkpoints  # orbax takes a second to import

        arrays = checkpoints.restore_model(run / "checkpoints")
    elif pickles := sorted(
        each.name for each in folder.iterdir() if each.suffix in PICKLES
    ):
        raise InputError(
            f"{shown} holds {pickles[0]}, a pickle, which can run code when opened: convert it to"
            " model.safetensors first"
        )
    else:
        raise InputError(f"{shown} holds no model.safetensors: give the folder that has it")
    if not config.is_file():
        raise InputError(
            f"{printable(config)} does not exist: weights in a folder need a config.json beside"
            " them"
        )
    return StoredWeights(
        arrays, _read_config(config), run.resolve().name, printable(config)
    )


def _on_hub(repository: str, revision: str | None) -> StoredWeights:
    try:
        # The config first: it is small, and says whether there is anything to load.
        config = _download(repository, "config.json", revision)
        file = _download(repository, "model.safetensors", revision)
    except hub_errors.GatedRepoError as error:
        raise InputError(
            f"{repository} is closed on the hub: ask for access there and log in with `hf auth"
            " login`"
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{repository!r} is neither a folder here nor on the hub: check the name"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise InputError(
            f"{repository} has no revision {revision!r} on the hub: check what follows the @"
        ) from error
    except hub_errors.RemoteEntryNotFoundError as error:
        raise InputError(
            f"{repository} has no config.json and model.safetensors on the hub, only other formats:"
            " choose another repository"
        ) from error
    except hub_errors.HFValidationError as error:
        raise InputError(
            f"{repository!r} is neither a folder here nor a hub id such as timm/resnet50.tv_in1k"
        ) from error
    except (OSError, hub_errors.HTTPError) as error:
        raise InputError(
            f"{repository} is no folder here, is not in the local cache of the hub, and the hub"
            f" cannot be reached ({type(error).__name__}): connect, or download config.json and"
            " model.safetensors elsewhere and give their folder"
        ) from error
    name = f"{repository}@{revision}" if revision else repository
    return StoredWeights(
        weights.read(file), _read_config(config), name, f"config.json of {repository}"
    )


def _download(repository: str, name: str, revision: str | None) -> Path:
    """The file in the hub's cache, fetched if need be."""
    cached = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision)
    if not isinstance(cached, str) and not constants.HF_HUB_OFFLINE:
        # Asking for metadata fails at once where the hub is out of reach; a download tries five
        # times.
        url = huggingface_hub.hf_hub_url(repository, name, revision=revision)
        huggingface_hub.get_hf_file_metadata(url)
    return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = parse_json(read_text(path))
    except (ValueError, OSError) as error:
        raise InputError(f"{printable(path)} is not readable JSON ({error})") from error
    if not isinstance(config, dict):
        raise InputError(
            f"{printable(path)} holds no JSON object: it must describe the network as timm does"
        )
    return config
