"""Build again and again while everything goes wrong, and check every result.

Run as `python -m tests.soak` (`make soak`). All random choices follow from the seed and the number
of the build, so a single build can be repeated.
"""

import argparse
import sys
import time

from tests.soak.soak import MIB, Options, soak


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--builds", type=int, default=500, metavar="N", help="how many (500)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (1)")
    parser.add_argument("--only", type=int, metavar="N", help="only the build with this number")
    parser.add_argument("--jobs", type=int, default=8, metavar="N", help="builds at once (8)")
    options = parser.parse_args()
    numbers = range(options.builds) if options.only is None else [options.only]
    start = time.monotonic()
    done = soak(Options(numbers=numbers, seed=options.seed, jobs=options.jobs))
    print("\n".join(done.table()))
    memory = ", ".join(f"{memory / MIB:.0f}" for memory in done.memory)
    print(f"\nMiB in use after each batch: {memory}")
    print(f"{len(done.results)} builds of seed {options.seed} in {time.monotonic() - start:.0f} s")
    for violation in done.violations:
        print(f"VIOLATION: {violation}", file=sys.stderr)
    print(f"{len(done.violations)} violations")
    return 1 if done.violations else 0


if __name__ == "__main__":
    sys.exit(main())
