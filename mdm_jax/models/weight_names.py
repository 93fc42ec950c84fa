"""Other people's names for the same weights, turned into timm's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from mdm_jax.errors import InputError

_LAYER = r"encoder\.layers\.encoder_layer_(\d+)\."
RULES = [
    # Before 2017 torch's DenseNets had a dot in the names of their norms and convolutions.
    (r"^(features\..*denselayer\d+\.(?:norm|conv))\.([12]\..*)$", r"\1\2"),
    # torchvision's Transformer; timm took its names from elsewhere.
    (r"^class_token$", "cls_token"),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (_LAYER + r"ln_([12])\.", r"blocks.\1.norm\2."),
    (_LAYER + r"self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
    (_LAYER + r"self_attention\.out_proj\.", r"blocks.\1.attn.proj."),
    (_LAYER + r"mlp\.(?:linear_1|0)\.", r"blocks.\1.mlp.fc1."),
    (_LAYER + r"mlp\.(?:linear_2|3)\.", r"blocks.\1.mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.head\.", "head."),
    # A network saved inside torch's DataParallel.
    (r"^module\.", ""),
]


def timm_name(name: str) -> str:
    """The name that timm gives to an entry of timm, of torchvision or of an old DenseNet."""
    # From the last rule: the prefix of DataParallel hides all others.
    for pattern, replacement in reversed(RULES):
        name = re.sub(pattern, replacement, name)
    return name


def timm_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays under timm's names, without torch's batch counters.

    Raises InputError where two would share a name."""
    renamed: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        # Of batch norms whose momentum falls with the number of batches, which none of ours does.
        if name.endswith("num_batches_tracked"):
            continue
        new = timm_name(name)
        if new in renamed:
            raise InputError(
                f"the weights hold {new!r} twice, under an old name and a new one: remove one of"
                " them"
            )
        renamed[new] = array
    return renamed
