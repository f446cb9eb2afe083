"""Which profiler a study uses, and pure: nsys' command line and environment for one run.

Options and traps were tried with nsys 2022.4, 2023.4 and 2024.2 (User Guide, "CLI Profile Command
Switch Options").
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from numa_bench.config.schema import ProfilerConfig
from numa_bench.errors import MachineError
from numa_bench.profiling import nsys
from numa_bench.profiling.hiding import can_hide, find_exposed_secrets, wrap_argv
from numa_bench.records import PROFILED_WINDOW, RUN_TOKEN, ProfileSpec, RunSpec
from numa_bench.redaction import has_credentials, is_secret, result_variables
from numa_bench.versions import PROJECT

#: Variables that Python and a compiler may need, beside those that change results.
_NEEDED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ"),
    *("LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "CC", "CXX", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONUNBUFFERED", "PYTHONHASHSEED", RUN_TOKEN),
)


@dataclass(frozen=True)
class Profiler:
    """The profiler of a study as it was found: `kind` is nsys, torch or none.

    `version` is that of nsys. `note` is what the user should know: why there is none. `hidden`:
    nsys cannot read other processes' environments; `exposed` are names in them, where it can,
    that look like secrets.
    """

    kind: str
    config: ProfilerConfig
    executable: str = ""
    version: str | None = None
    note: str | None = None
    hidden: bool = False
    exposed: tuple[str, ...] = ()

    def to_spec(self) -> ProfileSpec:
        """What each run is told of it."""
        if self.kind == "none":
            return ProfileSpec()
        config = self.config
        return ProfileSpec(self.kind, config.capture, config.batches, config.budget_s)


def find_profiler(config: ProfilerConfig, *, probe: bool) -> Profiler:
    """The profiler that the configuration asks for, on this machine.

    `probe` records a session of nothing with nsys first, which takes a second or two. Raises
    MachineError when nsys was asked for by name and is missing or does not work.
    """
    if config.kind in ("torch", "none"):
        return Profiler(config.kind, config)
    try:
        found = nsys.find_nsys(config.executable)
        if found is None:
            raise nsys.NsysError(f"{config.executable} was not found; {nsys.INSTALL}")
        version = nsys.read_version(found)
        if probe:
            nsys.probe_nsys(found, _tracing(config))
        hidden = can_hide(PROJECT)
        exposed = () if hidden else tuple(find_exposed_secrets())
        if exposed and config.kind == "auto":
            raise nsys.NsysError(
                f"reports would hold {', '.join(exposed)} of other processes, which nsys reads and "
                "this kernel or container does not let us hide; profiler=nsys records all the same"
            )
    except nsys.NsysError as error:
        if config.kind == "nsys":
            raise MachineError(f"profiler=nsys: {error}, or use profiler=torch or none") from error
        note = f"no profile: {error} (profiler=none for not being told)"
        return Profiler("none", config, note=note)
    return Profiler("nsys", config, found, version, hidden=hidden, exposed=exposed)


def build_nsys_argv(profiler: Profiler, spec: RunSpec, report: Path) -> list[str]:
    """The words to put before a command so that nsys records it into `report`."""
    argv = [profiler.executable, "profile", *_tracing(profiler.config)]
    if profiler.hidden:
        argv = wrap_argv(argv)
    if spec.profile.capture == "window":
        if spec.device.kind == "cuda":
            argv.append("--capture-range=cudaProfilerApi")
        else:
            argv += ["--capture-range=nvtx", f"--nvtx-capture={PROFILED_WINDOW}"]
        # The default ends the process with the range.
        argv.append("--capture-range-end=stop")
    # nsys replaces %p, %q{NAME} and the like in a report's name.
    return [*argv, *profiler.config.extra_args, f"--output={str(report).replace('%', '%%')}"]


def build_nsys_environment(
    env: Mapping[str, str], extra: tuple[str, ...] | list[str], tmp: Path
) -> dict[str, str]:
    """What a profiled run gets of an environment: no more, because its report holds all of it."""
    names = {*_NEEDED, *extra}
    kept = {
        name: value
        for name, value in env.items()
        if name == RUN_TOKEN
        or (name in names and not is_secret(name) and not has_credentials(value))
    }
    return {**result_variables(env), **kept, "TMPDIR": os.fspath(tmp)}


def _tracing(config: ProfilerConfig) -> list[str]:
    return [
        f"--trace={','.join(config.trace)}",
        f"--sample={config.sample}",
        f"--cpuctxsw={config.cpuctxsw}",
        "--cuda-graph-trace=node",  # or kernels inside CUDA graphs are missing
        "--force-overwrite=true",
    ]
