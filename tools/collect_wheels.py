"""Collect the wheels that a host without network needs: pinned packages and all that they need.

    python tools/collect_wheels.py OUTDIR --python 3.12 --requirements FILE --constraints FILE
                                   [--without torch,mlflow] [--extra-index-url URL]

Writes OUTDIR/wheels, OUTDIR/requirements.txt (every package with its version) and
OUTDIR/requirements-system-torch.txt (the same for a host that has torch). The constraints pin
everything, so nothing is resolved here: requirements are followed from one wheel's metadata to the
next, and a package left out is neither downloaded nor asked what it needs. One line on stderr and
exit code 2 where a package cannot be had. Needs pip only.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name, parse_wheel_filename

#: What a package left out takes along: torchvision is built against one torch.
TIED = {"torch": {"torchvision"}}
#: glibc 2.28 (Debian 10, RHEL 8) and older: what torch's own wheels ask for.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
_NO_WHEEL = re.compile(r"No matching distribution found for ([A-Za-z0-9._-]+)")


class CollectError(Exception):
    """A package cannot be had, or what was asked for makes no sense. One line."""


@dataclass
class Target:
    """The host that the wheels are for: a CPython ("3.12") on Linux, x86-64."""

    python: str
    index: list[str] = field(default_factory=list)

    def accepts(self, requirement: Requirement, extras: Iterable[str] = ()) -> bool:
        """Whether its marker holds there, for the first or the last patch release."""
        if requirement.marker is None:
            return True
        return any(
            requirement.marker.evaluate(
                {
                    "python_version": self.python,
                    "python_full_version": f"{self.python}.{patch}",
                    "implementation_name": "cpython",
                    "platform_python_implementation": "CPython",
                    "os_name": "posix",
                    "sys_platform": "linux",
                    "platform_system": "Linux",
                    "platform_machine": "x86_64",
                    "extra": extra,
                }
            )
            for extra in ("", *extras)
            for patch in (0, 99)
        )


def canonical(name: str) -> str:
    """A package's name as indexes compare it, such as `pyyaml` for PyYAML."""
    return str(canonicalize_name(name))


def read_requirements(path: Path) -> list[Requirement]:
    """The requirements of a flat file, comments and empty lines skipped."""
    lines = (line.partition(" #")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def find_left_out(without: list[str], requirements: list[Requirement]) -> set[str]:
    """The canonical names to leave out.

    Raises CollectError for a name that is no direct requirement.
    """
    direct = sorted(canonical(r.name) for r in requirements)
    names: set[str] = set()
    for name in map(canonical, without):
        if name not in direct:
            raise CollectError(f"--without {name}: no such requirement; one of {', '.join(direct)}")
        names |= {name, *TIED.get(name, ())}
    return names


class Collector:
    """Downloads packages level by level and remembers who needs whom."""

    def __init__(self, wheels: Path, target: Target, pins: dict[str, Requirement]) -> None:
        self.wheels, self.target, self.pins = wheels, target, pins
        #: Each collected package's version, and the packages that it needs, left out ones too.
        self.versions: dict[str, str] = {}
        self.needs: dict[str, set[str]] = {}

    def collect(self, requirements: list[Requirement], left_out: set[str]) -> None:
        """Download what `requirements` need, less `left_out` and what only those need."""
        seen: set[tuple[str, str]] = set()
        level = [r for r in requirements if self.target.accepts(r)]
        while level:
            level = [r for r in level if canonical(r.name) not in left_out]
            self.download([r for r in level if canonical(r.name) not in self.versions])
            following: list[Requirement] = []
            for requirement in level:
                name = canonical(requirement.name)
                new = {(name, extra) for extra in ("", *requirement.extras)} - seen
                seen |= new
                if new:
                    following += self.follow(name, {extra for _, extra in new})
            level = following

    def follow(self, name: str, extras: set[str]) -> Iterator[Requirement]:
        """What a collected package needs on the target, with these extras."""
        for requirement in read_metadata(self.wheels, name):
            if self.target.accepts(requirement, extras):
                self.needs.setdefault(name, set()).add(canonical(requirement.name))
                yield requirement

    def download(self, requirements: list[Requirement]) -> None:
        """Download wheels of these, without what they need; build the ones that have none."""
        wanted = {canonical(r.name): self.pin(r) for r in requirements}
        missing = dict(wanted)
        while missing:
            done = run_pip(
                *("download", "--no-deps", "--only-binary=:all:", "--implementation", "cp"),
                *("--python-version", self.target.python, "--dest", str(self.wheels)),
                *(word for platform in PLATFORMS for word in ("--platform", platform)),
                *(*self.target.index, *missing.values()),
            )
            if done.returncode == 0:
                break
            named = _NO_WHEEL.search(done.stderr)
            name = canonical(named[1]) if named else ""
            if name not in missing:
                raise CollectError(f"pip download: {last_line(done.stderr)}")
            self.build(missing.pop(name))
        for name in wanted:
            self.versions[name] = str(parse_wheel_filename(find_wheel(self.wheels, name).name)[1])

    def build(self, pin: str) -> None:
        """Build a wheel from a source distribution, which must not depend on this Python."""
        built = self.wheels / "built"
        done = run_pip("wheel", "--no-deps", "--wheel-dir", str(built), *self.target.index, pin)
        if done.returncode != 0:
            raise CollectError(
                f"{pin}: no wheel for Python {self.target.python}, and none can be built: "
                f"{last_line(done.stderr)}"
            )
        (wheel,) = built.iterdir()
        if not wheel.name.endswith("-none-any.whl"):
            raise CollectError(
                f"{pin}: no wheel for Python {self.target.python}; one must be built on such a host"
            )
        wheel.rename(self.wheels / wheel.name)
        built.rmdir()

    def pin(self, requirement: Requirement) -> str:
        """What to ask pip for: the pin, or what is asked for where constraints say nothing."""
        pinned = self.pins.get(canonical(requirement.name), requirement)
        return f"{requirement.name}{pinned.specifier}"

    def reach(self, requirements: list[Requirement], left_out: set[str]) -> list[str]:
        """`name==version` of all collected packages needed when `left_out` are there already."""
        reached: set[str] = set()
        waiting = {canonical(r.name) for r in requirements}
        while waiting:
            reached |= waiting
            needed = set().union(*(self.needs.get(name, set()) for name in waiting))
            waiting = (needed & set(self.versions)) - reached - left_out
        return sorted(f"{name}=={self.versions[name]}" for name in reached & set(self.versions))


def find_wheel(wheels: Path, name: str) -> Path:
    """The wheel of a package. Raises CollectError where there is none."""
    for path in wheels.glob("*.whl"):
        if parse_wheel_filename(path.name)[0] == name:
            return path
    raise CollectError(f"{name}: pip left no wheel of it in {wheels}")


def read_metadata(wheels: Path, name: str) -> list[Requirement]:
    """The requirements in the metadata of a package's wheel."""
    with zipfile.ZipFile(find_wheel(wheels, name)) as archive:
        (member,) = (m for m in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", m))
        metadata = HeaderParser().parsestr(archive.read(member).decode())
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]


def run_pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python's pip, quietly."""
    return subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def last_line(text: str) -> str:
    """The last line that says something."""
    return ([line for line in text.splitlines() if line.strip()] or ["pip said nothing"])[-1]


def write_kit(options: argparse.Namespace) -> None:
    """Collect the wheels and write both lists of requirements."""
    target = Target(options.python)
    if options.extra_index_url:
        target.index = ["--extra-index-url", options.extra_index_url]
    requirements = read_requirements(options.requirements)
    without = [name for name in options.without.split(",") if name]
    left_out = find_left_out(without, requirements)
    pins = {
        canonical(pin.name): pin
        for pin in read_requirements(options.constraints)
        if target.accepts(pin)
    }
    wheels = options.outdir / "wheels"
    wheels.mkdir(parents=True)
    collector = Collector(wheels, target, pins)
    collector.collect(requirements, left_out)
    # pip itself: Debian's Python makes no environment with pip unless python3-venv is installed.
    collector.download([Requirement("pip")])

    torch = {"torch", *TIED["torch"]}
    others = [r for r in requirements if canonical(r.name) not in torch]
    lists = {
        "requirements.txt": collector.reach(requirements, set()),
        "requirements-system-torch.txt": collector.reach(others, torch),
    }
    for name, lines in lists.items():
        (options.outdir / name).write_text("".join(f"{line}\n" for line in lines))


def main() -> int:
    """Run from the command line; tools/offline_kit.sh does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--requirements", type=Path, required=True)
    parser.add_argument("--constraints", type=Path, required=True)
    parser.add_argument("--without", default="")
    parser.add_argument("--extra-index-url", default="")
    try:
        write_kit(parser.parse_args())
    except CollectError as error:
        print(f"offline_kit.sh: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
