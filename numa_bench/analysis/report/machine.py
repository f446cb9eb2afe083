"""Pure: what the page says of the machine beside its picture: NUMA mode and links of the GPUs."""

from __future__ import annotations

import pandas as pd

from numa_bench.records.cpu_lists import format_cpu_list


def list_machine_facts(frame: pd.DataFrame) -> list[str]:
    """Sentences on each host: how its sockets are divided into nodes, and its GPUs' links.

    A GPU that ran below its maximum link has a sentence of its own. Nothing is said of what was not
    recorded.
    """
    if frame.empty:
        return []
    several = frame["host"].nunique() > 1
    facts: list[str] = []
    for host, runs in frame.groupby("host", sort=False):
        where = f"{host}: " if several else ""
        modes = list(dict.fromkeys(runs["env_numa_mode"].dropna()))
        if modes:
            facts.append(f"{where}NUMA mode: {'; '.join(modes)}.")
        facts += [f"{where}{text}" for text in describe_links(runs)]
    return facts


def describe_links(runs: pd.DataFrame) -> list[str]:
    """One sentence for the GPUs of a host with the same links, one for each that was slower."""
    alike: dict[tuple[str, str], list[int]] = {}
    slower: list[str] = []
    with_gpu = runs[runs["gpu_id"].notna()]
    for gpu, mine in with_gpu.groupby("gpu_id"):
        most = list(dict.fromkeys(mine["pcie_link_max"].dropna()))
        seen = mine[mine["pcie_link"].notna() & mine["pcie_link_max"].notna()]
        below = seen[seen["pcie_link"] != seen["pcie_link_max"]]
        if len(below):
            counts = ", ".join(
                f"{link} in {count} of {len(seen)} runs"
                for link, count in below["pcie_link"].value_counts().items()
            )
            slower.append(
                f"GPU {gpu} ran below its maximum link ({', '.join(most)}): {counts}. Its copies "
                "are slower than those of a GPU at the maximum (mark P)."
            )
        elif most:
            how = "under load" if len(seen) else "at most; the link under load was not read"
            alike.setdefault((", ".join(most), how), []).append(int(str(gpu)))
    same = [
        f"{'GPU' if len(gpus) == 1 else 'GPUs'} {format_cpu_list(gpus)}: {link} {how}."
        for (link, how), gpus in alike.items()
    ]
    return [*same, *slower]
