"""Build again and again while everything goes wrong, and look whether it ends as it must.

Run as `python -m tests.soak` (`make soak`). Whatever is left to chance follows from the seed and
the number of the build, so that one build can be repeated.
"""

import argparse
import sys
import time

from tests.soak.leaks import MIB
from tests.soak.soak import Options, soak


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--builds", type=int, default=500, metavar="N", help="how many (500)")
    parser.add_argument("--seed", type=int, default=1, help="of all chance (1)")
    parser.add_argument("--only", type=int, metavar="N", help="only the build of that number")
    parser.add_argument("--jobs", type=int, default=8, metavar="N", help="at once (8)")
    options = parser.parse_args()
    numbers = range(options.builds) if options.only is None else [options.only]
    start = time.monotonic()
    result = soak(Options(numbers=numbers, seed=options.seed, jobs=options.jobs))
    print("\n".join(result.table()))
    memory = ", ".join(f"{memory / MIB:.0f}" for memory in result.memory)
    print(f"\nMiB in use after each batch: {memory}")
    print(f"{len(result.came)} builds of seed {options.seed} in {time.monotonic() - start:.0f} s")
    for violation in result.violations:
        print(f"VIOLATION: {violation}", file=sys.stderr)
    print(f"{len(result.violations)} violations")
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
