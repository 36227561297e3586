"""Run the command line as a child process and add its peak memory to the JSON that it prints.

A process's peak is kept by the kernel over its whole life and told when it has ended
(getrusage(2), RUSAGE_CHILDREN: the largest of all children), so there is one child only.
"""

import json
import resource
import subprocess
import sys


def main() -> int:
    command = [sys.executable, "-m", "e2b_upload", *sys.argv[1:]]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps({**json.loads(done.stdout), "peak_mib": peak}))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
