"""What a check is, and how its figure becomes a verdict."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import torch

from numa_bench.errors import describe_exception
from numa_bench.records import JsonDict
from numa_bench.worker.devices import Waived as WaivedRun

if TYPE_CHECKING:
    from numa_bench.selftest.context import Context


#: The check whose note says why there is no GPU, if there is none.
DRIVER_CHECK = "driver and GPUs"


class Verdict(str, Enum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    WAIVED = "waived"  # it could not be done here; the reason is given


@dataclass(frozen=True)
class Limit:
    """The figures that pass: `least` to `most`, both included. NaN never passes."""

    least: float = -math.inf
    most: float = math.inf

    def allows(self, value: float) -> bool:
        """Whether a figure is within the limit."""
        return self.least <= value <= self.most

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.least:g}"
        if math.isinf(self.most):
            return "-" if math.isinf(self.least) else f">= {self.least:g}"
        return f"<= {self.most:g}" if math.isinf(self.least) else f"{self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class Figure:
    """What a check measured: its value in the check's unit, one line on it, and what it is made
    of, as plain JSON types."""

    value: float
    note: str = ""
    details: JsonDict = field(default_factory=dict)


@dataclass(frozen=True)
class Waived:
    """Why a check could not be done here."""

    reason: str


@dataclass(frozen=True)
class Check:
    """One question about the host or the build.

    `run` measures; whatever it raises fails the check, and so does taking longer than `timeout_s`
    seconds. `full_only`: takes long, so only with --full. `needs_gpu`: waived where there is no
    CUDA device. `own_process`: done in a process of its own, because what other checks leave behind
    in theirs would disturb it.
    """

    name: str
    question: str
    unit: str
    limit: Limit
    run: Callable[[Context], Figure | Waived]
    full_only: bool = False
    needs_gpu: bool = False
    own_process: bool = False
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Outcome:
    """A check that was done. `note` is the reason of a failure or waiver, else a remark."""

    check: Check
    verdict: Verdict
    figure: Figure | None
    note: str
    seconds: float
    traceback: str | None = None


def run_check(check: Check, context: Context) -> Outcome:
    """Do one check. An exception becomes the verdict `failed`, with its first line as note."""
    reason = _find_obstacle(check, context)
    if reason is not None:
        return Outcome(check, Verdict.WAIVED, None, reason, 0.0)
    begin = time.perf_counter()
    try:
        with torch.inference_mode():
            result = check.run(context)
    except WaivedRun as error:
        result = Waived(str(error))
    except Exception as error:  # noqa: BLE001 - every failure becomes a verdict
        note = describe_exception(error)
        seconds = time.perf_counter() - begin
        trace = traceback.format_exc()
        return Outcome(check, Verdict.FAILED, None, note, seconds, trace)
    seconds = time.perf_counter() - begin
    if isinstance(result, Waived):
        return Outcome(check, Verdict.WAIVED, None, result.reason, seconds)
    verdict = Verdict.PASSED if check.limit.allows(result.value) else Verdict.FAILED
    return Outcome(check, verdict, result, result.note, seconds)


def _find_obstacle(check: Check, context: Context) -> str | None:
    """Why a check is not done at all."""
    if check.full_only and not context.full:
        return "takes long; done with --full"
    if check.needs_gpu and context.cuda is None:
        return f"needs a GPU, see `{DRIVER_CHECK}`"
    return None
