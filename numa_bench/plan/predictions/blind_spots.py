"""What a planned study cannot show, each with what would. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from numa_bench.config.schemas.workload import AUTO, TestConfig
from numa_bench.labels import list_first
from numa_bench.machine.model import Topology
from numa_bench.plan.predictions.prediction import ModelPrediction
from numa_bench.plan.resolve import choose_batch_size

#: Most models that a line names.
_NAMED = 3


def find_blind_spots(predictions: Sequence[ModelPrediction], topology: Topology) -> list[str]:
    """One line for each reason why a study of the pipeline cannot show an effect of placement."""
    if not predictions:
        return []
    lines = []
    if len(topology.nodes) == 1:
        lines.append(
            "one NUMA node: there is no other placement to compare with, so no effect of placement "
            "can be shown; use a machine with several nodes"
        )
    if all(map(_hides_copies, predictions)):
        lines.append(
            "every model is predicted to be compute bound, which hides slower copies and a slower "
            "host; add a model with depth=0, or use experiment=bandwidth_study"
        )
    return [*lines, *_small_batches(predictions)]


def _hides_copies(model: ModelPrediction) -> bool:
    """Whether compute takes longest while copies and host go on beside it."""
    overlaps = model.limits.overlaps and model.run.test.pipeline_depth > 1
    return overlaps and model.prediction.bound == "compute"


def _small_batches(predictions: Sequence[ModelPrediction]) -> list[str]:
    """Host-bound models whose batch is smaller than the device would choose, by setting.

    A model that some other setting of the study frees from the host is left out.
    """
    groups: dict[tuple[int, str], list[str]] = {}
    freed = {model.run.vit for model in predictions if model.prediction.bound != "host"}
    for model in predictions:
        run, test = model.run, model.run.test
        if run.vit in freed or run.device.kind != "cuda":
            continue
        settings = TestConfig(**{**asdict(test), "batch_size": AUTO})
        if test.batch_size < choose_batch_size(settings, test.precision, gpu=True):
            groups.setdefault((test.batch_size, test.precision), []).append(run.vit.name)
    lines = []
    for (size, precision), names in groups.items():
        named = list_first(list(dict.fromkeys(names)), _NAMED)
        lines.append(
            f"batch {size} in {precision}: {named} predicted to be "
            "host bound, so the link's speed cannot show; use experiment.test.batch_size=auto, "
            "compile_model=true or cuda_graph=true"
        )
    return lines
