"""Generate docs/configuration.md from the help texts of the config fields.

Update the page: python -m numa_bench.config.docs > docs/configuration.md
"""

from __future__ import annotations

import sys

from numa_bench.config.schema import RunnerConfig
from numa_bench.config.schemas.workload import ViTConfig
from numa_bench.config.settings import list_settings
from numa_bench.terminal.entry import run_application

_HEAD = """# Configuration

Every setting of `hydra_experiment_runner.py`. Generated from its schema; do not edit,
run `python -m numa_bench.config.docs > docs/configuration.md` (a test checks that it is current).

On the command line, write `key=value`, lists as `[0,1]`, and entries of a list as
`experiment.vit_configs[0].depth=8`. `--cfg job` prints the composed configuration.
"""


def render_markdown() -> str:
    """The text of docs/configuration.md."""
    out = [_HEAD]
    group = None
    for leaf in list_settings(RunnerConfig):
        section = leaf.key.rsplit(".", 1)[0] if "." in leaf.key else "top level"
        if section != group:
            group = section
            out.append(f"\n## {section}\n")
            if section == "experiment.vit_configs[]":
                out.append(f"{_first_line(ViTConfig)} An entry may also set any key of")
                out.append("`experiment.test` for this model only.\n")
            out.append("| key | type | default | meaning |\n| --- | --- | --- | --- |")
        meaning = leaf.help.replace("|", "\\|")
        out.append(f"| `{leaf.key}` | {leaf.type} | `{leaf.default}` | {meaning} |")
    return "\n".join(out) + "\n"


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def main() -> int:
    """Print the page; return 0."""
    print(render_markdown(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(run_application("numa_bench.config.docs"))
