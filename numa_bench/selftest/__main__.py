"""python -m numa_bench.selftest."""

import sys

from numa_bench.selftest.command import main

if __name__ == "__main__":
    sys.exit(main())
