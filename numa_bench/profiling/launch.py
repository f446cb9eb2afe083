"""Select the profiler of a study, and build nsys' command line and environment for a run.

The options were tested with nsys 2022.4, 2023.4 and 2024.2 (User Guide, "CLI Profile Command
Switch Options").
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from numa_bench.config.schemas.output import ProfilerConfig
from numa_bench.errors import MachineError
from numa_bench.machine.backend import current_backend
from numa_bench.profiling import nsys
from numa_bench.profiling.hiding import can_hide, find_exposed_secrets, wrap_argv
from numa_bench.records import PROFILED_WINDOW, RUN_TOKEN, ProfileSpec, RunSpec
from numa_bench.redaction import has_credentials, is_secret, result_variables
from numa_bench.versions import PROJECT

#: Variables that Python and a compiler may need, in addition to those that change results.
_NEEDED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ"),
    *("LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "CC", "CXX", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONUNBUFFERED", "PYTHONHASHSEED", RUN_TOKEN),
)
#: Recording starts with cudaProfilerStart; a range that never opens leaves no report.
_CUDA_CAPTURE = ("--capture-range=cudaProfilerApi",)
#: By default nsys ends the process when the range ends.
_CAPTURE_END = "--capture-range-end=stop"


@dataclass(frozen=True)
class Profiler:
    """The profiler of a study on this machine: `kind` is nsys, torch or none.

    `version` is the version of nsys, `options` are those that not every version has. `note` is for
    the user: why there is no profiler. `hidden` means that nsys cannot read other processes'
    environments; if it can, `exposed` lists the variables in them that look like secrets.
    """

    kind: str
    config: ProfilerConfig
    executable: str = ""
    version: str | None = None
    options: tuple[str, ...] = ()
    note: str | None = None
    hidden: bool = False
    exposed: tuple[str, ...] = ()

    def to_spec(self) -> ProfileSpec:
        """The profiler settings for the spec of each run."""
        if self.kind == "none":
            return ProfileSpec()
        config = self.config
        return ProfileSpec(self.kind, config.capture, config.batches, config.budget_s)


def find_profiler(config: ProfilerConfig, *, probe: bool) -> Profiler:
    """The profiler that the configuration selects on this machine.

    With `probe`, nsys first records an empty session, which takes a second or two. Raises
    MachineError if profiler=nsys and nsys is missing or does not work.
    """
    if config.kind in ("torch", "none"):
        return Profiler(config.kind, config)
    try:
        if current_backend().simulated:
            raise nsys.NsysError("a simulated machine does nothing that nsys could record")
        executable = nsys.find_nsys(config.executable)
        if executable is None:
            raise nsys.NsysError(f"{config.executable} was not found; {nsys.INSTALL}")
        version = nsys.read_version(executable)
        if probe:
            nsys.probe_nsys(executable, _tracing(config, ()))
        hidden = can_hide(PROJECT)
        exposed = () if hidden else tuple(find_exposed_secrets())
        if exposed and config.kind == "auto":
            raise nsys.NsysError(
                f"reports would contain {', '.join(exposed)} of other processes, which cannot be "
                "hidden from nsys in this kernel or container; profiler=nsys records anyway"
            )
    except nsys.NsysError as error:
        return _refuse(config, error)
    # Tracing events adds dependencies between streams (NeMo-Run pull request 180).
    known = nsys.knows_option(executable, "--cuda-event-trace")
    options = ("--cuda-event-trace=false",) if known else ()
    return Profiler("nsys", config, executable, version, options, hidden=hidden, exposed=exposed)


def check_cuda_recording(profiler: Profiler, environ: Mapping[str, str]) -> Profiler:
    """The profiler, if its nsys records a kernel of a process with this environment.

    `environ` makes one GPU visible. Otherwise no profiler, with a note; raises MachineError if
    nsys was asked for by name.
    """
    if profiler.kind != "nsys":
        return profiler
    config = profiler.config
    command = [sys.executable, "-m", "numa_bench.worker.probe", "--capture"]
    options = [*_tracing(config, profiler.options), *_CUDA_CAPTURE, _CAPTURE_END]
    env = build_nsys_environment(environ, config.env, Path(tempfile.gettempdir()))
    try:
        nsys.probe_cuda(profiler.executable, options, command, env)
    except nsys.NsysError as error:
        return _refuse(config, error)
    return profiler


def _refuse(config: ProfilerConfig, error: nsys.NsysError) -> Profiler:
    if config.kind == "nsys":
        raise MachineError(f"profiler=nsys: {error}, or use profiler=torch or none") from error
    return Profiler("none", config, note=f"no profile: {error} (profiler=none silences this)")


def build_nsys_argv(profiler: Profiler, spec: RunSpec, report: Path) -> list[str]:
    """The arguments to prepend to a command so that nsys records it into `report`."""
    argv = [profiler.executable, "profile", *_tracing(profiler.config, profiler.options)]
    if profiler.hidden:
        argv = wrap_argv(argv)
    if spec.profile.capture == "window":
        if spec.device.kind == "cuda":
            argv += _CUDA_CAPTURE
        else:
            # The nvtx package registers its strings, by which nsys finds the range.
            argv += ["--capture-range=nvtx", f"--nvtx-capture={PROFILED_WINDOW}"]
        argv.append(_CAPTURE_END)
    # nsys expands %p, %q{NAME} and the like in the report's name.
    return [*argv, *profiler.config.extra_args, f"--output={str(report).replace('%', '%%')}"]


def build_nsys_environment(
    env: Mapping[str, str], extra: tuple[str, ...] | list[str], tmp: Path
) -> dict[str, str]:
    """The environment of a profiled run, as small as possible because its report contains it."""
    names = {*_NEEDED, *extra}
    kept = {
        name: value
        for name, value in env.items()
        if name == RUN_TOKEN
        or (name in names and not is_secret(name) and not has_credentials(value))
    }
    return {**result_variables(env), **kept, "TMPDIR": os.fspath(tmp)}


def _tracing(config: ProfilerConfig, options: Sequence[str]) -> list[str]:
    return [
        f"--trace={','.join(config.trace)}",
        f"--sample={config.sample}",
        f"--cpuctxsw={config.cpuctxsw}",
        "--cuda-graph-trace=node",  # otherwise kernels inside CUDA graphs are missing
        "--force-overwrite=true",  # else a report beside an old one lands in TMPDIR
        *options,
    ]
