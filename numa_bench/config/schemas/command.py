"""Settings of a command study: any program, what is read of it, and how its placement is checked.

See `schema.py` for the rest and for how it is registered. `command_parsing.py` turns the texts into
what is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from numa_bench.config.settings import documented_field
from numa_bench.records.command_spec import INVALID, OFF, WARNING

PLACEMENT_CHECKS = (INVALID, WARNING, OFF)


@dataclass(kw_only=True, slots=True)
class CommandConfig:
    """A program to run under each placement (experiment.workload=command).

    Its arguments may hold {gpu}, {gpus}, {gpu_uuid}, {node}, {nodes} and {out}; see
    docs/own-workloads.md.
    """

    name: Optional[str] = documented_field(
        None, "Name in tables and plots. null: that of the program or of its script."
    )
    argv: Any = documented_field(
        None,
        "The command: a list of arguments, or one text, which is split as a shell would split it. "
        "No shell runs it. command= at the top is short for it.",
        kind="text or list of texts",
    )
    shell: bool = documented_field(
        False, "Run the text with /bin/sh -c, for pipes, redirections and variables."
    )
    variants: Any = documented_field(
        None,
        "Variants to compare in the same random blocks, by name: commands, or, where argv is set, "
        "arguments that are added to it (an empty list: none). The first one is what the others "
        "are compared to. Each may be a mapping with argv and a require of its own. null: the "
        "command alone.",
        kind="mapping of names to texts, lists or mappings, or null",
    )
    require: Any = documented_field(
        None,
        "Command that must succeed for a run to be tried; it is tried once for each GPU. If it "
        "fails, runs are waived, with the last line of its output as the reason: for options "
        "that not every version has.",
        kind="text, list of texts or null",
    )
    metrics: Any = documented_field(
        [],
        "What is read of the command, each as name:higher|lower:unit=regex (last match in its "
        "output), or a mapping with name, better, unit and either regex (with stream: both, stdout "
        "or stderr, and take: last or all) or json and key. The first one is compared; without "
        "any it is the wall time.",
        kind="list of texts or mappings",
    )
    warmup: int = documented_field(
        0, "Executions before the measured one in each run; their wall times are kept apart."
    )
    prepare: Any = documented_field(
        None,
        "Command before each execution, such as one that clears a cache. It is not bound.",
        kind="text, list of texts or null",
    )
    cleanup: Any = documented_field(
        None, "Command after each execution. It is not bound.", kind="text, list of texts or null"
    )
    check: Any = documented_field(
        None,
        "Command after the measured execution, such as a test of its output. If it fails, the run "
        "is invalid.",
        kind="text, list of texts or null",
    )
    directory: Optional[str] = documented_field(
        None, "Working directory of all these commands. null: that of the runner."
    )
    placement_check: str = documented_field(
        "invalid",
        "A run whose memory or threads are not where they were bound: "
        f"{', '.join(PLACEMENT_CHECKS)} (off: not checked). Use warning for programs that bind "
        "themselves.",
    )
    least_fraction: float = documented_field(
        0.95, "Least share of the memory on the bound nodes, when most memory is in use."
    )
    sample_s: float = documented_field(
        0.5,
        "Seconds between two looks at the memory and threads of all processes of the command; more "
        "where looks would take more than 0.2 % of a CPU.",
    )
    max_output_mb: int = documented_field(
        64, "A run that writes more to stdout and stderr, in MB, is stopped and fails."
    )
