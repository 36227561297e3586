"""Run one command, and append a line of JSON to its output: exit code, time and memory.

A tiny process for each command. The kernel counts the memory of the process that starts a program
into the peak of that program, so the starter must be small: without site-packages and without
subprocess about 10 MiB, which is the floor of all peaks. It runs by path, as
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
    result = {
        "code": os.waitstatus_to_exitcode(status),
        "wall": time.perf_counter() - start,
        "cpu": usage.ru_utime + usage.ru_stime,  # with that of its own children, as in a pipeline
        "peak_mib": usage.ru_maxrss / 1024,  # of the largest process among them
    }
    # On a line of its own, even if the command did not end its last one.
    sys.stdout.write(f"\n{json.dumps(result)}\n")


if __name__ == "__main__":
    main()
