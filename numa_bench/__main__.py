"""python -m numa_bench is the installed command."""

import sys

if __name__ == "__main__":
    try:
        from numa_bench.terminal.entry import main

        sys.exit(main())
    except KeyboardInterrupt:  # before run_application took over
        sys.exit(130)
