"""Vision Transformers, Flax NNX, NHWC.

Dosovitskiy et al., arXiv 2010.11929, and DeiT, Touvron et al., arXiv 2012.12877.

`ViT(images) -> (logits, out)`: `out` names the tokens of every block and, on request, its
attention. Parameters carry timm's names (`blocks.0.attn.qkv`), so weight files map one to one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mdm_jax.data.preprocessing import IMAGENET
from mdm_jax.errors import InputError, unknown
from mdm_jax.models.family import Family, Variant
from mdm_jax.models.layers import (
    Identity,
    Outputs,
    PatchProjection,
    conv,
    norm,
    number_of_classes,
)

Tokens = Float[Array, "n t d"]
Attentions = Float[Array, "n heads t t"]
STEMS = ("patch", "conv")

# Pixels a side, where nothing else is said: right for images of 64 pixels.
PATCH = 8


class Attention(nnx.Module):
    """Multi-head self-attention, softmax(q k' / sqrt(d)) v, its softmax explicit and in float32."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = _linear(width, 3 * width, rngs=rngs)
        self.proj = _linear(width, width, rngs=rngs)

    def __call__(self, x: Tokens) -> tuple[Tokens, Attentions]:
        n, t, width = x.shape
        q, k, v = jnp.moveaxis(
            self.qkv(x).reshape(n, t, 3, self.heads, width // self.heads), 2, 0
        )
        scores = jnp.einsum(
            "nqhd,nkhd->nhqk",
            q * q.shape[-1] ** -0.5,
            k,
            preferred_element_type=jnp.float32,
        )
        attention = jax.nn.softmax(scores, axis=-1)
        mixed = jnp.einsum("nhqk,nkhd->nqhd", attention.astype(x.dtype), v)
        return self.proj(mixed.reshape(n, t, width)), attention


class Mlp(nnx.Module):
    """Two linear layers with the exact GELU between them."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        self.fc1 = _linear(width, hidden, rngs=rngs)
        self.fc2 = _linear(hidden, width, rngs=rngs)

    def __call__(self, x: Tokens) -> Tokens:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class Block(nnx.Module):
    """Attention, then MLP, each on normed tokens and added to them.

    Returns the tokens, the attention, and the normed tokens that entered it."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1 = _norm(width, rngs=rngs)
        self.attn = Attention(width, heads, rngs=rngs)
        self.norm2 = _norm(width, rngs=rngs)
        self.mlp = Mlp(width, 4 * width, rngs=rngs)

    def __call__(self, x: Tokens) -> tuple[Tokens, Attentions, Tokens]:
        normed = self.norm1(x)
        mixed, attention = self.attn(normed)
        x = x + mixed
        return x + self.mlp(self.norm2(x)), attention, normed


class PatchEmbed(nnx.Module):
    """Patches as tokens.

    Stem `patch`: one linear map of each patch. `conv`: pairs of 3x3 convolutions, the first of
    stride 2, until a patch is a pixel (after Xiao et al., arXiv 2106.14881, with a second
    convolution); it learns from far fewer images."""

    def __init__(self, channels: int, width: int, patch: int, stem: str, *, rngs: nnx.Rngs):
        if stem not in STEMS:
            raise unknown("stem", stem, STEMS)
        halvings = patch.bit_length() - 1 if stem == "conv" else 0
        if halvings and 2**halvings != patch:
            raise InputError(
                f"a conv stem halves the image, so a patch of {patch} cannot be: give 2, 4, 8, 16"
                " or 32"
            )
        widths = [width >> (halvings - 1 - i) for i in range(halvings)]
        layers: list[Any] = []
        for inputs, outputs in zip([channels, *widths], widths):
            layers += [conv(inputs, outputs, 3, 2, rngs=rngs), norm(outputs, rngs=rngs)]
            layers += [conv(outputs, outputs, 3, rngs=rngs), norm(outputs, rngs=rngs)]
        self.stem = nnx.List(layers)
        side = 1 if halvings else patch
        self.proj = PatchProjection(
            widths[-1] if halvings else channels, width, side, rngs=rngs
        )

    def __call__(self, images: Float[Array, "n h w c"]) -> Tokens:
        x = images
        for convolution, batch_norm in zip(self.stem[::2], self.stem[1::2]):
            x = jax.nn.relu(batch_norm(convolution(x)))
        x = self.proj(x)
        return x.reshape(len(x), -1, x.shape[-1])


class ViT(nnx.Module):
    """Transformer classifier of any width, depth, patch, stem, input size and class count.

    `size` (height, width) in pixels fixes the grid of the learned position embeddings; images of
    another size, a multiple of `patch`, get them interpolated bicubically. `distilled` adds DeiT's
    second token and head. `remat` computes each block but the last again in the backward pass:
    memory of one block instead of all. Input [n, h, w, channels], already normalized; returns
    logits [n, classes] and `{"tokens", "block1", ..., "norm1", "norm": [n, t, d], "features": [n,
    d]}`, with the class token first, and with `attention=True` also `"attention": [blocks x [n,
    heads, t, t]]`. `norm1` is what enters the last block's attention (timm's `blocks[-1].norm1`):
    the last place where the patches' tokens reach the logits, so CAMs look here. With
    `num_classes=0` there is no head, see `ResNet`. Raises InputError for sizes that are no multiple
    of the patch, widths that are none of the heads, and a distilled network without a head."""

    def __init__(
        self,
        *,
        num_classes: int = 10,
        size: tuple[int, int] = (64, 64),
        patch: int = PATCH,
        width: int = 96,
        depth: int = 4,
        heads: int = 3,
        stem: str = "patch",
        distilled: bool = False,
        remat: bool = False,
        channels: int = 3,
        rngs: nnx.Rngs,
    ):
        if width % heads:
            raise InputError(
                f"width {width} is no multiple of {heads} heads: change one of them"
            )
        if distilled and not num_classes:
            raise InputError(
                "a distilled Transformer has two heads, so it cannot go without: leave out"
                " distilled or give num_classes"
            )
        self.patch, self.depth, self.remat = patch, depth, remat
        self.width, self.feature_layer = width, "norm"
        self.grid = self._grid_of(*size)
        extra = 2 if distilled else 1
        small, places = nnx.initializers.normal(0.02), nnx.initializers.normal(width**-0.5)
        self.patch_embed = PatchEmbed(channels, width, patch, stem, rngs=rngs)
        self.cls_token = nnx.Param(small(rngs.params(), (1, 1, width)))
        if distilled:
            self.dist_token = nnx.Param(small(rngs.params(), (1, 1, width)))
        self.pos_embed = nnx.Param(
            places(rngs.params(), (1, extra + self.grid[0] * self.grid[1], width))
        )
        self.blocks = nnx.List([Block(width, heads, rngs=rngs) for _ in range(depth)])
        self.norm = _norm(width, rngs=rngs)
        self.head = _linear(width, num_classes, rngs=rngs) if num_classes else Identity()
        self.distilled = distilled
        if distilled:
            self.head_dist = _linear(width, num_classes, rngs=rngs)

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was made with, but for `remat`, which changes no weight."""
        embed = self.patch_embed
        first = embed.stem[0] if len(embed.stem) else embed.proj
        return {
            "num_classes": number_of_classes(self.head),
            "size": (self.grid[0] * self.patch, self.grid[1] * self.patch),
            "patch": self.patch,
            "width": embed.proj.out_features,
            "depth": self.depth,
            "heads": self.blocks[0].attn.heads,
            "stem": "conv" if len(embed.stem) else "patch",
            "distilled": self.distilled,
            "channels": first.in_features,
        }

    def __call__(
        self, images: Float[Array, "n h w c"], *, attention: bool = False
    ) -> Outputs:
        x = self._embed(images)
        out: dict[str, Any] = {"tokens": x}
        attentions = []
        for number, block in enumerate(self.blocks, start=1):
            # The last block's memory is needed as soon as the backward pass begins: to compute it
            # again would save nothing.
            is_remade = self.remat and number < self.depth
            apply = jax.checkpoint(network_block) if is_remade else network_block
            x, weights, out["norm1"] = apply(block, x)
            out[f"block{number}"] = x
            attentions.append(weights)
        x = out["norm"] = self.norm(x)
        if attention:
            out["attention"] = attentions
        out["features"] = x[:, 0]
        logits = self.head(x[:, 0])
        return (logits + self.head_dist(x[:, 1])) / 2 if self.distilled else logits, out

    def _embed(self, images: Array) -> Tokens:
        """Patches as tokens behind the class token (and DeiT's), with position embeddings."""
        grid = self._grid_of(*images.shape[1:3])
        patches = self.patch_embed(images)
        first = [self.cls_token[...]] + ([self.dist_token[...]] if self.distilled else [])
        tokens = [
            jnp.broadcast_to(token, (len(images), 1, token.shape[-1])).astype(patches.dtype)
            for token in first
        ]
        sequence = jnp.concatenate([*tokens, patches], axis=1)
        return sequence + interpolate(self.pos_embed[...], len(first), self.grid, grid)

    def _grid_of(self, height: int, width: int) -> tuple[int, int]:
        if height % self.patch or width % self.patch or not height * width:
            raise InputError(
                f"{height}x{width} pixels are no multiple of the patch of {self.patch}: choose"
                " another input size"
            )
        return height // self.patch, width // self.patch


@jax.jit  # blocks are alike: all but the first need not be traced again (see `convolutions.BLOCK`)
def network_block(block: Block, x: Tokens) -> tuple[Tokens, Attentions, Tokens]:
    return block(x)


def interpolate(
    embedding: Float[Array, "1 t d"], extra: int, old: tuple[int, int], new: tuple[int, int]
) -> Float[Array, "1 t2 d"]:
    """Position embeddings for another grid, bicubic with antialiasing, as in timm.

    The `extra` leading ones, of the class token and DeiT's, have no place and stay."""
    if old == new:
        return embedding
    first, places = embedding[:, :extra], embedding[:, extra:]
    image = places.reshape(1, *old, -1).astype(jnp.float32)
    resized = jax.image.resize(image, (1, *new, image.shape[-1]), "cubic", antialias=True)
    return jnp.concatenate(
        [first, resized.reshape(1, new[0] * new[1], -1).astype(embedding.dtype)], axis=1
    )


def _linear(inputs: int, outputs: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        inputs, outputs, kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs
    )


def _norm(width: int, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)


_SIZES = {
    "tiny": {"width": 192, "depth": 12, "heads": 3},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
}

# What torchvision's own Transformers were evaluated with (its ViT-L/16 alone: crop 0.926).
TORCHVISION: dict[str, Any] = {"crop": 0.875, "interpolation": "bilinear", **IMAGENET}

# ViTs that AugReg's authors fine-tuned on ImageNet-1k at 224 pixels.
AUGREG = (
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "vit_small_patch32_224",
    "vit_base_patch16_224",
    "vit_base_patch32_224",
    "vit_large_patch16_224",
)


def _variants() -> dict[str, Variant]:
    variants = {}
    for size, sizes in _SIZES.items():
        for patch in (16, 32):
            variants[f"vit_{size}_patch{patch}"] = Variant({**sizes, "patch": patch})
    deit = {"crop_pct": 0.9, "interpolation": "bicubic", **IMAGENET}
    for size in ("tiny", "small", "base"):
        for name, distilled in ((f"deit_{size}", False), (f"deit_{size}_distilled", True)):
            arguments = {**_SIZES[size], "patch": 16, "distilled": distilled}
            variants[f"{name}_patch16"] = Variant(arguments, deit)
    return variants


def _usual_weights(name: str) -> str | None:
    """AugReg's weights of a ViT, DeiT's own of a DeiT."""
    has_size = name.rpartition("_")[2].isdigit()
    sized = name if has_size else f"{name}_224"
    if sized in AUGREG:
        return f"timm/{sized}.augreg_in21k_ft_in1k"
    if sized.startswith("deit") and sized.endswith("_224"):
        return f"timm/{sized}.fb_in1k"
    return None


FAMILY = Family(
    ViT,
    first_layer="patch_embed.proj",
    head="head",
    preprocessing={
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    },
    usual_weights=_usual_weights,
    variants=_variants(),
    pool="token",
    has_position_embeddings=True,
    can_remat=True,
)
