#!/usr/bin/env bash
# Run the tests that submit jobs, on a SLURM that is up: jobs that end well, are killed, time out, are
# requeued (tests/slurm), and the same sweep under each launcher (tests/test_launchers.py, which asks
# for one GPU and needs a node that has two or more, idle ones; --deselect it elsewhere).
#   tests/slurm/run.sh [arguments of pytest]
# SLURM's commands must be on PATH and reach a controller (set SLURM_CONF where needed), the working
# directory must be shared with the nodes, and accounting must be on: submitit learns only from
# sacct that a job died. PYTHON chooses the interpreter; it needs hydra-submitit-launcher.
# Jobs run on CPUs for some seconds each; SLURM itself waits two minutes before it restarts a job.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for command in sbatch srun scontrol scancel squeue sacct sinfo; do
    command -v "$command" >/dev/null || { echo "run.sh: $command is not on PATH" >&2; exit 2; }
done
sinfo --noheader >/dev/null || { echo "run.sh: no SLURM controller answers" >&2; exit 2; }
python=${PYTHON:-.venv/bin/python}
"$python" -c "import hydra_plugins.hydra_submitit_launcher" 2>/dev/null || {
    echo "run.sh: pip install 'hydra-submitit-launcher>=1.2,<1.3'" >&2
    exit 2
}
echo "$(scontrol --version), $(sinfo --noheader -o '%D node(s), %P, %G' | sort -u | paste -sd';')"
export NUMA_BENCH_SLURM=1
exec "$python" -m pytest -o timeout=900 -n 5 --dist load -vv tests/slurm tests/test_launchers.py "$@"
