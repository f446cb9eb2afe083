"""A worker that starts in milliseconds: it leaves a result, and when it began and ended.

    python -I -S quick_worker.py RESULT RUN_ID SPEC_HASH [DIRECTORY NAME COUNT]

Its window is nearly the whole life of its process, start-up included. With a directory it leaves a
file NAME there, and does not end before there are COUNT of them.
"""

import json
import os
import sys
import time

begin = time.monotonic()
path, run_id, spec_hash, *meeting = sys.argv[1:]
if meeting:
    directory, name, count = meeting
    open(f"{directory}/{name}", "w").close()  # noqa: PTH123 - as below
    while len(os.listdir(directory)) < int(count):  # noqa: PTH208 - as below
        time.sleep(0.01)
time.sleep(0.01)  # what it measures: long enough to meet another one, if there is one
stage = [0.1] * 12
result = {
    "run_id": run_id,
    "spec_hash": spec_hash,
    "status": "passed",
    "metrics": {"throughput_samples_per_s": 100.0, "measured_s": 0.01},
    "samples": {"h2d_ms": stage, "compute_ms": stage, "d2h_ms": stage},
    "observed": {"window_monotonic_s": [begin, time.monotonic()]},
}
with open(path, "w") as file:  # noqa: PTH123 - pathlib would take longer than all the rest
    json.dump(result, file)
