"""The analysis's Hydra application: from stored studies to a verdict, plots and one page."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from numa_bench.analysis import settings
from numa_bench.analysis.settings import AnalysisConfig, Settings
from numa_bench.config.hydra import guard as hydra_guard
from numa_bench.config.hydra.overrides import check_options
from numa_bench.config.settings import CONFIG_DIR
from numa_bench.invocation import command_words
from numa_bench.terminal.lines import print_line


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="analyze")
def app(node: DictConfig) -> None:
    """Run one Hydra job; an error is reported in one line and leaves no empty directory."""
    hydra_guard.guard_job(lambda: run(node), AnalysisConfig)


def run(node: DictConfig) -> None:
    """Check the settings and write the analysis."""
    job = HydraConfig.get()
    wanted = settings.check_settings(node, list(job.overrides.task))
    write = write_partitions if wanted.config.partition_by else write_analysis
    write(wanted, Path(job.runtime.output_dir))


def write_analysis(wanted: Settings, directory: Path) -> None:
    """Write the page of an analysis to `directory` and print its verdict, or only its block.

    With format=markdown stdout has the block and nothing else: all notes are on stderr. Raises
    RegressionFound when throughput fell by more than `fail_on_regression` percent.
    """
    # Imported late: --cfg job, --help and mistakes do not wait for numpy, pandas and matplotlib.
    from numa_bench.analysis.report.files import write_report
    from numa_bench.analysis.report.terminal import print_analysis, print_block
    from numa_bench.commands.analysis_inputs import load_analysis
    from numa_bench.commands.tracker_upload import upload_report

    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    command = shlex.join([*command_words("analyze"), *sys.argv[1:]])
    analysis = load_analysis(wanted, created=created, command=command)
    report = write_report(analysis, directory)
    OmegaConf.save(OmegaConf.structured(wanted.config), directory / "config_resolved.yaml")
    only_block = wanted.config.format == settings.MARKDOWN
    if only_block:
        print_block(analysis, report.block)
    else:
        print_analysis(analysis, directory)
    roots = {str(study.directory) for study in analysis.loaded.studies}
    if wanted.config.track and len(roots) == 1 and (note := upload_report(Path(*roots), directory)):
        print_line(note, error=only_block)
    if analysis.comparison is not None and analysis.comparison.regressed:
        from numa_bench.commands.analysis_inputs import RegressionFound

        raise RegressionFound(analysis.comparison.text)


def write_partitions(wanted: Settings, directory: Path) -> None:
    """Write verdicts and tables of hosts that are analysed one after the other, and print them."""
    from numa_bench.analysis.report.fleet import print_fleet, write_fleet
    from numa_bench.commands.analysis_inputs import load_fleet

    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    command = shlex.join([*command_words("analyze"), *sys.argv[1:]])
    target = wanted.config.target_percent / 100
    fleet = load_fleet(wanted)
    about: dict[str, str | float] = {
        "name": wanted.name,
        "created": created,
        "command": command,
        "target": target,
    }
    write_fleet(fleet, directory, about)
    OmegaConf.save(OmegaConf.structured(wanted.config), directory / "config_resolved.yaml")
    print_fleet(fleet, directory)


def start() -> None:
    """Start Hydra."""
    check_options(sys.argv[1:])
    app()


def main() -> int:
    """Run the application on this process's command line; return its exit code."""
    settings.register_settings()
    return hydra_guard.run_app(start, AnalysisConfig, "root")
