"""From pooled effects and the measured machine to advice: one per group. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from numa_bench.analysis.advice.bindings import Bindings, Place, make_bindings
from numa_bench.analysis.advice.gains import (
    EQUAL,
    FASTER,
    NONE_FOUND,
    SLOWER,
    UNBOUND,
    UNKNOWN,
    Effect,
    choose_reference,
    describe_gains,
    describe_sides,
    name_placement,
    read_effects,
    select_placement,
)
from numa_bench.analysis.advice.machine import (
    Machine,
    explain_unknown,
    name_machine,
    read_machine,
)
from numa_bench.analysis.advice.result import (
    BIND,
    BIND_ELSEWHERE,
    DO_NOT_BOTHER,
    LEAVE_UNBOUND,
    NO_BINDING,
    NO_VERDICT,
    NOT_ENOUGH,
    NOTHING_TO_BIND,
    Advice,
)
from numa_bench.analysis.advice.targets import (
    list_local_targets,
    list_measured_targets,
    list_node_targets,
)
from numa_bench.analysis.read.runs import Loaded
from numa_bench.analysis.stats.pooled.table import BOUND
from numa_bench.analysis.stats.sentences import format_percent
from numa_bench.labels import LOCAL, is_local
from numa_bench.machine.model import Topology

#: Kinds whose lines are those of the local placement.
_LOCAL_KINDS = (BIND, NOT_ENOUGH, NO_VERDICT)


def advise(pooled: pd.DataFrame, loaded: Loaded, target: float) -> tuple[Advice, ...]:
    """One advice per group of runs, in their order.

    `pooled` is the table of `stats.pooled`, empty where nothing was compared; `target` is the
    smallest effect of interest, a fraction.
    """
    frame = loaded.frame
    groups = list(dict.fromkeys(frame["group"])) if not frame.empty else []
    return tuple(
        _advise_group(str(group), frame[frame["group"] == group], pooled, loaded, target)
        for group in groups
    )


def _advise_group(
    group: str, runs: pd.DataFrame, pooled: pd.DataFrame, loaded: Loaded, target: float
) -> Advice:
    effects = read_effects(pooled, group, target)
    blank = Advice(group, name_machine(runs), NO_BINDING, "", effects=tuple(effects))
    try:
        machine = read_machine(runs, loaded)
    except ValueError as error:
        return replace(blank, text=f"No binding can be given: {error}.")
    decided = _decide(blank, machine, effects, target)
    if decided.kind in (DO_NOT_BOTHER, NOTHING_TO_BIND, LEAVE_UNBOUND):
        return decided
    if machine.gpus and not machine.known_gpus and decided.kind in _LOCAL_KINDS:
        return replace(
            decided,
            kind=NO_BINDING,
            placement=None,
            text=f"No binding can be given: {explain_unknown(machine.unknown)}.",
        )
    return _add_lines(decided, machine, effects)


def _decide(blank: Advice, machine: Machine, effects: Sequence[Effect], target: float) -> Advice:
    """Kind, placement and text, before there are lines."""
    # Groups of models decide; a single model needs more runs for the same certainty.
    groups = [e for e in effects if e.level == BOUND or e.outcome in (SLOWER, FASTER)]
    outcomes = {e.outcome for e in groups}
    if len(machine.topology.nodes) == 1 and not outcomes & {SLOWER, FASTER}:
        return replace(
            blank,
            kind=NOTHING_TO_BIND,
            text="Nothing to bind: this machine has one NUMA node, so all of its CPUs and memory "
            "are equally near.",
        )
    if not effects:
        return replace(
            blank,
            kind=NO_VERDICT,
            placement=LOCAL,
            text=f"No verdict on placement: {_name_local(machine)} bindings of the measured "
            "machine follow; what they gain is not known.",
        )
    better = _choose_better(effects)
    if better is not None:
        return _advise_better(blank, better, effects, target)
    if SLOWER in outcomes:
        return _advise_local(blank, machine, effects, target)
    if outcomes <= {EQUAL, NONE_FOUND}:
        return replace(blank, kind=DO_NOT_BOTHER, text=_say_do_not_bother(groups, target))
    return replace(
        blank,
        kind=NOT_ENOUGH,
        placement=LOCAL,
        text=f"{_say_not_enough(groups, target)} Until then {_name_local(machine)} bindings are "
        "the safe choice; what they gain is not known.",
    )


def _choose_better(effects: Sequence[Effect]) -> str | None:
    """The placement that is faster than local for some models and slower for none, if any."""
    slower = {e.placement for e in effects if e.outcome == SLOWER}
    faster = [e for e in effects if e.outcome == FASTER and e.placement not in slower]
    return max(faster, key=lambda e: e.low).placement if faster else None


def _advise_better(blank: Advice, label: str, effects: Sequence[Effect], target: float) -> Advice:
    gains = _say_against_local(label, effects, target)
    if label == UNBOUND:
        text = f"Do not bind: unbound is faster than local. {gains}"
        return replace(blank, kind=LEAVE_UNBOUND, text=text)
    text = f"Bind as {name_placement(label)}: it is faster than local here. {gains}"
    return replace(
        blank, kind=BIND_ELSEWHERE, placement=label, text=text, details=_say_sides(effects)
    )


def _say_against_local(label: str, effects: Sequence[Effect], target: float) -> str:
    gains = describe_gains(effects, label, target, advised=label)
    return f"{name_placement(label)} against local: {gains}."


def _advise_local(
    blank: Advice, machine: Machine, effects: Sequence[Effect], target: float
) -> Advice:
    what = "each GPU's own node" if machine.gpus else "the same node"
    reference = choose_reference(effects) or ""
    text = (
        f"Bind CPUs and memory to {what}. Against {name_placement(reference)}: "
        f"{describe_gains(effects, reference, target)}."
    )
    details = []
    slower = [e for e in effects if e.outcome == SLOWER]
    if all(e.placement != reference for e in slower):
        worst = min(slower, key=lambda e: e.change).placement
        details.append(
            f"Against {name_placement(worst)}: {describe_gains(effects, worst, target)}."
        )
    faster = dict.fromkeys(e.placement for e in effects if e.outcome == FASTER)
    for label in faster:
        details.append(
            f"{label} is faster than local for some models and slower for others: bind those "
            f"models apart. {_say_against_local(label, effects, target)}"
        )
    return replace(
        blank, kind=BIND, placement=LOCAL, text=text, details=(*details, *_say_sides(effects))
    )


def _say_sides(effects: Sequence[Effect]) -> tuple[str, ...]:
    sides = describe_sides(effects)
    return (sides,) if sides else ()


def _say_do_not_bother(effects: Sequence[Effect], target: float) -> str:
    largest = format_percent(max(e.largest for e in effects))
    if all(e.outcome == EQUAL for e in effects):
        return (
            f"Do not bother: no placement differs from local by more than "
            f"{format_percent(target)} % (all 95 % intervals are within {largest} %)."
        )
    return (
        "Do not bother: no placement was found to differ from local; a difference of "
        f"{largest} % or more would have shown."
    )


def _say_not_enough(effects: Sequence[Effect], target: float) -> str:
    unsure = [e for e in effects if e.outcome == UNKNOWN]
    size = format_percent(target)
    needed = [e.repeats_needed for e in unsure]
    known = [n for n in needed if n is not None]
    if not known:
        return (
            f"Not enough runs to advise, and the noise is too large to show {size} %: find out "
            "what disturbs the runs."
        )
    return (
        f"Not enough runs to advise: repeat with experiment.repeats={max(known)} to show {size} %."
    )


def _name_local(machine: Machine) -> str:
    return "local" if machine.gpus else "one-node"


def _add_lines(advice: Advice, machine: Machine, effects: Sequence[Effect]) -> Advice:
    """The advice with its bindings, and what they do not cover."""
    label = advice.placement or LOCAL
    topology = machine.topology
    if label != LOCAL:
        targets = list_measured_targets(machine.runs, label, topology)
    elif machine.gpus:
        targets = list_local_targets(topology, machine.known_gpus)
    else:
        targets = list_node_targets(topology)
    place = Place(tuple(targets), topology, is_local(label), _is_socket_local(topology, effects))
    bindings = make_bindings(place) if targets else Bindings()
    details = list(advice.details)
    if machine.unknown and label == LOCAL:
        details.append(f"Not for all GPUs: {explain_unknown(machine.unknown)}.")
    if not targets:
        details.append("No lines: this placement was measured with sets of workers only.")
    return replace(advice, lines=bindings.lines, left_out=bindings.left_out, details=tuple(details))


def _is_socket_local(topology: Topology, effects: Sequence[Effect]) -> bool:
    """Whether the other nodes of a socket are equal to a GPU's own, and sockets are known.

    Equality has to be shown: an effect that was not found is not enough.
    """
    same = select_placement(effects, "same_socket")
    sockets = [node.socket for node in topology.nodes if not node.cpuless]
    return bool(same) and None not in sockets and all(e.outcome == EQUAL for e in same)
