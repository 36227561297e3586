"""Run one command, and add to what it prints a line of JSON: how it ended, and what it took.

A tiny process, started anew for each command. The kernel counts the memory of whoever starts a
program into that program's peak, so it must be small: without site-packages and without
subprocess some 10 MiB, the floor of every peak that it tells. It runs by path, as
`python -I -S launcher.py COMMAND...`, and imports nothing of this project.
"""

import json
import os
import sys
import time


def main() -> None:
    start = time.perf_counter()
    child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    told = {
        "code": os.waitstatus_to_exitcode(status),
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,  # with that of its own children, as of a pipeline
        "peak_mib": usage.ru_maxrss / 1024,  # of the largest process among them
    }
    # A line of its own, whether or not the command ended its last one.
    sys.stdout.write(f"\n{json.dumps(told)}\n")


if __name__ == "__main__":
    main()
