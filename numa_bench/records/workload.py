"""What one batch asks of a machine: shapes, bytes and floating-point operations. Pure.

Of a model that is no ViT only the input is known here; the worker finds its output and its FLOP in
a forward pass (worker/models/output.py).

Arithmetic is that of the forward pass of vit-pytorch's ViT without its head. A multiply with its
add counts as two FLOP. Normalisation, softmax, GELU, biases and residual sums are left out; they
are below one percent of the rest for the sizes used here.
"""

from __future__ import annotations

import math

from numa_bench.records import RunSpec, VitSpec

#: Bytes of one element.
ELEMENT_BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


def input_shape(spec: RunSpec) -> tuple[int, ...]:
    """Shape of one batch of images: (batch, channels, side, side), or the model's own."""
    test = spec.test
    if spec.vit.input_shape is not None:
        return (test.batch_size, *spec.vit.input_shape)
    return (test.batch_size, test.channels, test.image_size, test.image_size)


def output_shape(spec: RunSpec) -> tuple[int, ...]:
    """Shape of one batch of output: all tokens, class token included; for a no-op its input.

    Raises ValueError for a model that is no ViT.
    """
    if spec.vit.is_no_op:
        return input_shape(spec)
    tokens = token_count(spec.vit, spec.test.image_size)
    return (spec.test.batch_size, tokens, spec.vit.sizes()["dim"])


def token_count(vit: VitSpec, image_size: int) -> int:
    """Patches of one image, plus the class token. Raises ValueError for a model that is no ViT."""
    side = image_size // vit.sizes()["patch_size"]
    return side * side + 1


def copy_bytes(spec: RunSpec) -> tuple[int, int]:
    """Bytes of one batch that are copied to the device, and back from it.

    Raises ValueError for a model that is no ViT.
    """
    size = ELEMENT_BYTES[spec.test.precision]
    return size * math.prod(input_shape(spec)), size * math.prod(output_shape(spec))


def sample_flop(spec: RunSpec) -> int | None:
    """FLOP of one sample; None for a model that is no ViT, where only the worker can count."""
    if spec.vit.is_custom:
        return None
    test = spec.test
    return vit_flop(image_size=test.image_size, channels=test.channels, **spec.vit.sizes())


def vit_flop(
    *,
    image_size: int,
    channels: int,
    patch_size: int,
    depth: int,
    dim: int,
    heads: int,
    dim_head: int,
    mlp_dim: int,
) -> int:
    """FLOP of one sample; 0 for depth 0, which only copies.

    With p = (image_size / patch_size)^2 patches, n = p + 1 tokens, d = dim, h = heads x dim_head
    and m = mlp_dim:

        patch embedding   2 p (channels patch_size^2) d
        per block         2 n d 3h     queries, keys, values
                          2 n^2 h      scores
                          2 n^2 h      weighted sum of values
                          2 n h d      projection
                          4 n d m      feed-forward, two layers

    Shapes: Vaswani et al. 2017, section 3.2; Dosovitskiy et al. 2021, equations 1 to 4.
    """
    if depth == 0:
        return 0
    patches = (image_size // patch_size) ** 2
    tokens, inner = patches + 1, heads * dim_head
    embedding = 2 * patches * channels * patch_size**2 * dim
    attention = 2 * tokens * dim * 3 * inner + 4 * tokens**2 * inner + 2 * tokens * inner * dim
    feed_forward = 4 * tokens * dim * mlp_dim
    return embedding + depth * (attention + feed_forward)
