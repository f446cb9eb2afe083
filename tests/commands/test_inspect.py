"""The inspector's command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from numa_bench.analysis.profiles.pcie import find_run_link, parse_link
from numa_bench.commands.inspect import main
from numa_bench.errors import ReportError
from numa_bench.pcie import GENERATIONS
from numa_bench.profiling import nsys
from numa_bench.store import StudyStore
from tests.conftest import NSYS, PROJECT
from tests.nsys_files import MS, Copy, Gpu, Kernel, Range, Timeline, pipeline, write_report
from tests.specs import record_of

APP = PROJECT / "analysis" / "inspect_report.py"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    return write_report(tmp_path / "pipe.sqlite", pipeline(6))


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return write_report(tmp_path / "host.sqlite", Timeline(ranges=pipeline(6).ranges, gpus=()))


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = main([str(word) for word in argv])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_view_tells_the_figures(pipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, pipe, "--pcie", "3x16")

    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    gpu = "GPU 0: NVIDIA A100-SXM4-40GB, 40.0 GB, 108 SMs, PCI 0000:03:00.0"
    assert f"{gpu}, GPU-0a000000-0000-4000-8000-000000000000" in lines
    assert 'window: range "profiled window", 15.00 ms (all: --window all)' in lines
    assert "kernels 12 12.00 ms 80.0 %" in lines
    assert "H2D 48.00 MB 8.00 GB/s 50.8 % 3.20 GB/s" in lines
    assert "all three 2.00 ms" in lines
    assert (
        "80.8 % of the copy time is hidden behind compute; 2.50 ms of 13.00 ms is exposed" in lines
    )
    assert "gemm 6 6.00 ms 1,000.00 us 50.0 %" in lines


def test_an_unknown_link_is_said_to_be_unknown(
    pipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, __ = run(capsys, pipe)

    assert "PCIe link unknown" in out
    assert "limit: PCIe" not in out


def test_a_report_of_a_machine_without_gpu(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, host)

    assert code == 0
    assert "no GPU activity in this report" in out
    stages = [
        line.split()[0] for line in out.splitlines() if line.strip()[:3] in ("H2D", "D2H", "com")
    ]
    assert stages == ["H2D", "compute", "D2H"]
    assert "GPU busy" not in out


def test_json_is_one_list(pipe: Path, host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--json", "--pcie", "4x16", pipe, host)

    first, second = json.loads(out)
    assert code == 0
    assert first["file"] == str(pipe)
    assert first["window"] == "profiled window"
    assert first["pcie"]["limit_gb_per_s"] == pytest.approx(31.508, abs=0.001)
    (device,) = first["devices"]
    assert device["copies"]["H2D"]["bytes"] == 48_000_000
    assert device["overlap"]["all_three_ms"] == 2.0
    assert (second["gpu_activity"], second["devices"]) == (False, [])


def test_csv_has_a_row_for_each_file_and_gpu(
    pipe: Path, host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = write_report(
        tmp_path / "two.sqlite",
        Timeline(kernels=[Kernel(0, MS), Kernel(0, MS, device=1)], gpus=[Gpu(0), Gpu(1)]),
    )

    code, out, _ = run(capsys, "--csv", pipe, host, two)

    rows = list(csv.DictReader(out.splitlines()))
    assert code == 0
    assert [(Path(r["file"]).name, r["device"]) for r in rows] == [
        ("pipe.sqlite", "0"),
        ("host.sqlite", ""),
        ("two.sqlite", "0"),
        ("two.sqlite", "1"),
    ]
    assert rows[0]["h2d_gb_per_s_of_busy_time"] == "8.0"
    assert rows[1]["kernel_count"] == ""
    assert rows[2]["h2d_bytes"] == ""


def test_compare_puts_two_side_by_side(
    pipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_report(tmp_path / "other.sqlite", pipeline(12))

    code, out, _ = run(capsys, "--compare", pipe, other)

    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert "compute busy 12.00 ms 24.00 ms 2.000" in lines
    assert "H2D while copying 8.00 GB/s 8.00 GB/s 1.000" in lines


def test_a_bad_file_does_not_hide_the_others(
    pipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.sqlite"
    bad.write_text("nothing")

    code, out, err = run(capsys, bad, pipe, tmp_path / "none.json")

    assert code == 2
    assert "GPU busy" in out
    assert err.splitlines() == [
        f"error: {bad}: not an SQLite file, so not an exported nsys report",
        f"error: {tmp_path / 'none.json'}: No such file or directory",
    ]


def test_markup_in_names_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_report(
        tmp_path / "[red]x.sqlite",
        Timeline(kernels=[Kernel(0, 5, "[bold]k[/]")], ranges=[Range(0, 9, "[/no]")]),
    )

    code, out, _ = run(capsys, path)

    assert code == 0
    assert "[bold]k[/]" in out
    assert "[/no]" in out
    assert "[red]x.sqlite" in out


@pytest.mark.parametrize("name", ["pipe", "host"])
def test_the_picture_is_beside_the_report(
    name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    path: Path = request.getfixturevalue(name)

    code, _, err = run(capsys, path, "--plot")

    picture = path.parent / f"{name}.timeline.png"
    assert code == 0
    assert err == f"timeline: {picture}\n"
    assert picture.read_bytes().startswith(PNG)


def test_a_picture_that_cannot_be_written(pipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, pipe, "--plot-to", pipe.parent / "no" / "p.png")

    assert code == 2
    assert "the timeline cannot be written" in err


def test_the_picture_of_an_empty_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_report(tmp_path / "e.sqlite", Timeline(gpus=()))

    code, _, __ = run(capsys, path, "--plot")

    assert code == 0
    assert (tmp_path / "e.timeline.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    "argv",
    [["--compare", "a"], ["--json", "--csv", "a"], ["a", "b", "--plot-to", "p.png"], []],
    ids=" ".join,
)
def test_arguments_that_do_not_go_together(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["4", "7x16", "4x3", "x16", "gen4"])
def test_links_that_there_are_not(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--pcie", text, "unread.sqlite")

    assert code == 2
    assert err == f"error: --pcie {text}: give generation and width, such as 4x16\n"


def test_limits_of_links() -> None:
    """Per direction at x16, before packet headers: the figures that are commonly rounded to
    4, 8, 15.8, 31.5 and 63 GB/s."""
    limits = [round(parse_link(f"{gen}x16").gb_per_s, 2) for gen in GENERATIONS]

    assert limits == [4.0, 8.0, 15.75, 31.51, 63.02, 118.0]
    assert parse_link("Gen3 x 8").gb_per_s == pytest.approx(7.877, abs=0.001)


def test_the_link_of_a_studys_run(pipe: Path, tmp_path: Path) -> None:
    """Named after its run, in a directory of the study, whose record holds what was read."""
    monitor = {"pcie_max_generation": {"max": 4.0}, "pcie_max_width": {"max": 8.0}}
    monitors = {"other": {}, "run-1.5": monitor}
    with StudyStore(tmp_path) as store:
        for run_id, readings in monitors.items():
            store.add_record({**record_of(run_id), "monitor": readings})
    reports = tmp_path / "nsys_reports"
    reports.mkdir()
    report = reports / "run-1.5.sqlite"
    shutil.copy(pipe, report)

    link = find_run_link(report)

    assert link is not None
    assert (link.generation, link.width, link.source) == (4, 8, "the run's record")
    assert find_run_link(reports / "other.sqlite") is None
    assert find_run_link(pipe) is None


def script(*argv: object) -> subprocess.CompletedProcess[str]:
    """The app as a user runs it, from the project's root."""
    command = [sys.executable, str(APP), *map(str, argv)]
    return subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )


def test_run_as_a_script_nothing_is_shadowed(pipe: Path) -> None:
    """analysis/ is not on the path itself, and what --json does not need is not imported."""
    code = (
        "import json, runpy, sys\n"
        f"sys.argv = [{str(APP)!r}, '--json', {str(pipe)!r}]\n"
        f"sys.path[0] = {str(APP.parent)!r}\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=pipe.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    loaded = json.loads(done.stderr)
    assert json.loads(done.stdout)[0]["devices"]
    assert "numa_bench.analysis.profiles.nsys_export" in loaded
    assert not {"nsys", "activity", "timeline"} & set(loaded)
    assert not {"pandas", "matplotlib", "torch", "hydra", "rich"} & set(loaded)


@pytest.mark.slow
def test_help_and_exit_code_of_the_script(pipe: Path, tmp_path: Path) -> None:
    assert "--compare" in script("--help").stdout
    done = script(pipe, tmp_path / "none.sqlite")
    assert done.returncode == 2
    assert "GPU busy" in done.stdout
    assert done.stderr.splitlines() == [
        f"error: {tmp_path / 'none.sqlite'}: No such file or directory"
    ]


def test_a_nsys_rep_without_nsys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("numa_bench.profiling.nsys.find_nsys", lambda: None)
    report = tmp_path / "r.nsys-rep"
    report.write_bytes(b"x")

    code, out, err = run(capsys, report)

    assert (code, out) == (2, "")
    assert err == f"error: {report}: nsys is needed to export a .nsys-rep; {nsys.INSTALL}\n"


def test_an_export_beside_the_report_is_used_again(
    pipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = pipe.with_suffix(".nsys-rep")
    report.write_bytes(b"older than its export")
    os.utime(report, (1, 1))

    code, out, _ = run(capsys, report)

    assert code == 0
    assert str(report) in out


def record_nothing(report: Path) -> None:
    """Record `true` with nsys. Its daemon was seen to hang on busy machines: it gets two tries."""
    options = ["--trace=nvtx", "--sample=none", "--cpuctxsw=none", "--force-overwrite=true"]
    command = [str(NSYS), "profile", *options, f"--output={report}", "true"]
    env = {**os.environ, "TMPDIR": str(report.parent)}
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, env=env, capture_output=True, timeout=60, check=True)
        return
    subprocess.run(command, env=env, capture_output=True, timeout=120, check=True)


@pytest.mark.slow
@pytest.mark.skipif(NSYS is None, reason="nsys is not installed")
def test_a_real_nsys_rep_is_exported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real recording of a process without GPU work."""
    monkeypatch.setenv("NSYS", str(NSYS))
    report = tmp_path / "real.nsys-rep"
    record_nothing(report)

    code, out, err = run(capsys, report)

    assert (code, err) == (0, "")
    assert "no GPU activity in this report" in out
    assert report.with_suffix(".sqlite").is_file()


@pytest.mark.skipif(NSYS is None, reason="nsys is not installed")
def test_a_damaged_nsys_rep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSYS", str(NSYS))
    bad = tmp_path / "bad.nsys-rep"
    bad.write_bytes(b"no report")

    code, _, err = run(capsys, bad)

    assert code == 2
    assert str(bad) in err
    assert len(err.splitlines()) == 1


def test_copies_alone_have_no_overlap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_report(tmp_path / "c.sqlite", Timeline(copies=[Copy(0, MS, 1, 10**6)]))

    code, out, _ = run(capsys, path)

    assert code == 0
    assert "Overlap" not in out
    assert "no kernels" in out


def test_unknown_link_text_is_an_error_of_ours() -> None:
    with pytest.raises(ReportError):
        parse_link("fast")
