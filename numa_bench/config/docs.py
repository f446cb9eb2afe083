"""The documentation that the config fields carry, as --help text and as docs/configuration.md.

Write the page: python -m numa_bench.config.docs > docs/configuration.md
"""

from __future__ import annotations

from numa_bench.config.schema import RunnerConfig, ViTConfig
from numa_bench.config.settings import list_settings

_HEAD = """# Configuration

Every setting of `hydra_experiment_runner.py`. Generated from its schema; do not edit,
run `python -m numa_bench.config.docs > docs/configuration.md` (a test keeps it in step).

On the command line: `key=value`, lists as `[0,1]`, entries of a list as
`experiment.vit_configs[0].depth=8`. `--cfg job` prints the composed configuration.
"""


def render_markdown() -> str:
    """The page docs/configuration.md."""
    out = [_HEAD]
    group = None
    for leaf in list_settings(RunnerConfig):
        section = leaf.key.rsplit(".", 1)[0] if "." in leaf.key else "top level"
        if section != group:
            group = section
            out.append(f"\n## {section}\n")
            if section == "experiment.vit_configs[]":
                out.append(f"{_first_line(ViTConfig)} An entry may also hold any setting of")
                out.append("`experiment.test`, for itself alone.\n")
            out.append("| key | type | default | meaning |\n| --- | --- | --- | --- |")
        meaning = leaf.help.replace("|", "\\|")
        out.append(f"| `{leaf.key}` | {leaf.type} | `{leaf.default}` | {meaning} |")
    return "\n".join(out) + "\n"


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    print(render_markdown(), end="")
