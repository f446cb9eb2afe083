"""How much arithmetic one sample costs: the forward pass of vit-pytorch's ViT without its head.

A multiply with its add counts as two FLOP. Normalisation, softmax, GELU, biases and residual sums
are left out; they are below a per cent of the rest for the sizes used here.
"""

from __future__ import annotations


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
