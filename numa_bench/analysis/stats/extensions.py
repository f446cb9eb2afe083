"""What it means for a verdict that a study was extended after its results could be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from numa_bench.analysis.stats.permutation import ALPHA, LEAST_RUNS

#: Share of studies without any effect that claim one at any of so many looks.
FALSE_CLAIMS = {2: 0.08, 3: 0.10, 4: 0.12, 5: 0.13, 6: 0.14}


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
