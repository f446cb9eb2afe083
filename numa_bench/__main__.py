"""python -m numa_bench is the installed command."""

import sys

from numa_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
