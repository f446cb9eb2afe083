"""What it means for a verdict that a study was extended after its results could be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from numa_bench.analysis.stats.permutation import ALPHA, LEAST_RUNS

#: Share of studies without any effect that claim one at any of so many looks. Simulated: 1,200
#: studies of one setting in two placements with the noise called "real" in docs/statistics.md,
#: judged after 5, 10, ..., 30 repeats (4.7 % at the first look; standard errors 0.6 to 1.0 points).
#: Contrasts pooled over 6 models x 8 GPUs stay lower: 0.9 % at one look, 4.5 % at any of four.
FALSE_CLAIMS = {2: 0.07, 3: 0.09, 4: 0.11, 5: 0.13, 6: 0.14}


def describe_extensions(frame: pd.DataFrame) -> list[str]:
    """A line for each study of these runs that was extended, by the column `repeats_history`."""
    histories = frame.drop_duplicates("study_dir").set_index("study_dir")["repeats_history"]
    several = len(histories) > 1
    lines = []
    for directory, history in histories.items():
        text = describe_looks(history, f"the study in {directory}" if several else "this study")
        lines += [text] if text else []
    return lines


def describe_looks(history: Sequence[int], study: str) -> str:
    """The extensions of a study and the rate of false claims that they lead to; empty if none.

    `history` as in experiment_summary.json. From fewer than three repeats there is no verdict, so
    such a start was no look.
    """
    looks = [repeats for repeats in history if repeats >= LEAST_RUNS]
    if len(looks) < 2:
        return ""
    most = max(FALSE_CLAIMS)
    rate = FALSE_CLAIMS[min(len(looks), most)]
    about = "more than" if len(looks) > most else "about"
    return (
        f"{study} was extended from {' to '.join(map(str, looks))} repeats: looking again after "
        f"each extension claims something by chance in {about} {100 * rate:.0f} % of studies "
        f"without any effect, not in {100 * ALPHA:.0f} %"
    )
