"""What an advice is: its kind, its words, its lines."""

from __future__ import annotations

from dataclasses import dataclass

from numa_bench.analysis.advice.bindings import Line
from numa_bench.analysis.advice.gains import Effect
from numa_bench.records import JsonDict

#: Kinds of advice.
BIND, BIND_ELSEWHERE, LEAVE_UNBOUND = "bind", "bind_elsewhere", "leave_unbound"
DO_NOT_BOTHER, NOT_ENOUGH, NO_VERDICT = "do_not_bother", "not_enough", "no_verdict"
NOTHING_TO_BIND, NO_BINDING = "nothing_to_bind", "no_binding"


@dataclass(frozen=True)
class Advice:
    """What to do on one machine: `text` says it, `details` support it, `lines` apply it.

    `kind` is one of the above, `placement` the label that the lines apply (None: no binding).
    `left_out` names tools that cannot express it. `effects` are those of all placements.
    """

    group: str
    machine: str
    kind: str
    text: str
    placement: str | None = None
    details: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    lines: tuple[Line, ...] = ()
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> JsonDict:
        """Plain JSON types; a number that is not known is null."""
        names = ("group", "machine", "kind", "placement", "text")
        return {
            **{name: getattr(self, name) for name in names},
            "details": list(self.details),
            "effects": [effect.to_dict() for effect in self.effects],
            "lines": [line.to_dict() for line in self.lines],
            "left_out": list(self.left_out),
        }
