"""How much device memory one run needs, so that an automatic batch fits. Pure."""

from __future__ import annotations

from dataclasses import replace

from numa_bench.records import TestSpec, VitSpec
from numa_bench.records.workload import ELEMENT_BYTES, token_count

#: What the CUDA context, its libraries and their workspaces take. Assumed; about 0.5 GB on
#: current GPUs, more with a compiler's.
CONTEXT_BYTES = 1_500_000_000
#: Part of the device's memory that a run may plan with: the allocator's blocks do not fit exactly,
#: and some memory is the driver's. Chosen.
USABLE = 0.8


def fit_batch(test: TestSpec, vit: VitSpec, memory_bytes: int) -> TestSpec:
    """The settings with the batch halved until a run of a ViT fits into a device's memory.

    Of a model that is no ViT nothing is known before it runs, and its batch stays as it is.
    """
    while test.batch_size > 1 and estimate_device_bytes(test, vit) > USABLE * memory_bytes:
        test = replace(test, batch_size=test.batch_size // 2)
    return test


def estimate_device_bytes(test: TestSpec, vit: VitSpec) -> int:
    """Most device memory of a run: context, weights, batches in flight, one forward pass.

    A model that is no ViT counts as a no-op.
    """
    size = ELEMENT_BYTES[test.precision]
    image = test.channels * test.image_size**2
    output = image
    if not (vit.is_custom or vit.is_no_op):
        output = token_count(vit, test.image_size) * vit.sizes()["dim"]
    in_flight = test.pipeline_depth * (image + output)
    per_sample = in_flight + count_peak_elements(test, vit)
    # Weights are made in fp32 on the host and moved in the run's precision.
    return CONTEXT_BYTES + size * (test.batch_size * per_sample + _count_weights(test, vit))


def count_peak_elements(test: TestSpec, vit: VitSpec) -> int:
    """Elements of activations of one sample that are alive together in an eager forward pass.

    With n tokens, width d, inner width h of the attention, m of the feed-forward and H heads, a
    block of vit-pytorch's ViT keeps its input and the normalised one, and beside them

        explicit attention   (3h + 2h) n + 2 H n^2: qkv, contiguous queries and keys, two n x n
                             matrices (the scores before and after scaling, or after softmax)
        fused attention      (3h + 2h) n
        feed-forward         2m n: before and after GELU

    The embedding keeps its patches rearranged and normalised, and three widths.
    """
    if vit.is_custom or vit.is_no_op:
        return 0
    shape = vit.sizes()
    tokens, dim = token_count(vit, test.image_size), shape["dim"]
    inner = shape["heads"] * shape["dim_head"]
    scores = 2 * shape["heads"] * tokens**2 if test.attention == "explicit" else 0
    attention = tokens * (2 * dim + 5 * inner) + scores
    feed_forward = tokens * (2 * dim + 2 * shape["mlp_dim"])
    embedding = 2 * test.channels * test.image_size**2 + 3 * tokens * dim
    return max(attention, feed_forward, embedding)


def _count_weights(test: TestSpec, vit: VitSpec) -> int:
    """Elements of the matrices; norms and biases are below one percent of them."""
    if vit.is_custom or vit.is_no_op:
        return 0
    shape = vit.sizes()
    dim, inner = shape["dim"], shape["heads"] * shape["dim_head"]
    embedding = test.channels * shape["patch_size"] ** 2 * dim
    positions = token_count(vit, test.image_size) * dim
    block = 4 * dim * inner + 2 * dim * shape["mlp_dim"]
    return embedding + positions + shape["depth"] * block
