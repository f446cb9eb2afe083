"""Building the kernels: where, with which compiler, and what is said when it cannot be done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from numa_bench.worker.memory_kernels import build
from numa_bench.worker.memory_kernels.kernels import KernelsUnavailable, load_library

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, build.COMPILERS)), reason="no C compiler"
)
Directories = tuple[Path, Path]


@needs_compiler
@pytest.mark.slow
def test_a_library_is_for_one_source(directories: Directories) -> None:
    package, _ = directories
    first = build.build_library().path
    assert load_library().name == "C"

    build.SOURCE.write_text(build.SOURCE.read_text() + "/* changed */\n")
    with pytest.raises(KernelsUnavailable, match=r"not built .*run: python -m numa_bench\S+build$"):
        load_library()
    second = build.build_library().path

    assert load_library().name == "C"
    assert second != first
    assert list(package.glob("*.so")) == [second]


@needs_compiler
@pytest.mark.slow
@pytest.mark.usefixtures("directories")
def test_a_library_under_a_wrong_name_is_refused() -> None:
    first = build.build_library().path
    content = first.read_bytes()
    build.SOURCE.write_text(build.SOURCE.read_text() + "/* changed */\n")
    first.with_name(build._library_name()).write_bytes(content)

    with pytest.raises(KernelsUnavailable, match="cannot be loaded: built as"):
        load_library()


def test_what_is_no_library_is_refused(directories: Directories) -> None:
    directories[0].joinpath(build._library_name()).write_text("not a library")

    with pytest.raises(KernelsUnavailable, match="cannot be loaded"):
        load_library()


@needs_compiler
@pytest.mark.slow
def test_libraries_for_other_cpus_are_kept(directories: Directories) -> None:
    other = directories[0] / "_kernels-000000000000-x86_64-ffffff.so"
    other.touch()

    build.build_library()

    assert other.exists()


@needs_compiler
@pytest.mark.slow
def test_the_cache_directory_where_the_package_is_read_only(
    directories: Directories, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, cache = directories
    # A file in place of a folder refuses everybody, root included.
    monkeypatch.setattr(build, "_directories", lambda: (build.SOURCE / "package", cache))

    assert build.main() == 0

    assert capsys.readouterr().out.startswith(f"memory kernels: {cache}/_kernels-")
    assert load_library().name == "C"


def test_no_directory_is_writable(
    directories: Directories, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "_find_compiler", lambda: ["cc"])
    monkeypatch.setattr(build, "_directories", lambda: (build.SOURCE / "package",))

    assert build.main() == 1

    assert "no directory for the memory kernels is writable" in capsys.readouterr().err
    assert directories[0].exists()


def test_without_a_compiler_one_line_says_what_to_install(
    directories: Directories, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(directories[1]))
    monkeypatch.setenv("CC", "no-such-compiler")

    assert build.main() == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("memory kernels: not built: no C compiler ($CC, cc, gcc, clang)")
    assert f"install gcc, then run: {build.COMMAND}" in line
    assert build.find_library() is None


@needs_compiler
@pytest.mark.slow
def test_a_compiler_that_does_not_know_the_cpu(
    directories: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = directories[0] / "old compiler"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *-march=native*) echo "error: bad value" >&2; exit 1;; esac\n'
        f'shift; exec {next(filter(None, map(shutil.which, build.COMPILERS)))} "$@"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", f"'{compiler}' --wrapped")

    made = build.build_library()

    assert made.made_by == f"'{compiler}' --wrapped -O3"
    assert load_library().name == "C"


@needs_compiler
def test_a_source_that_does_not_compile(
    directories: Directories, capsys: pytest.CaptureFixture[str]
) -> None:
    build.SOURCE.write_text("int broken(")

    assert build.main() == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot compile {build.SOURCE}: " in line
    assert list(directories[0].iterdir()) == [build.SOURCE]


def test_it_takes_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["--help"]) == 2
    assert build.COMMAND in capsys.readouterr().err
