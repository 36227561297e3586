"""Fuzz every target with atheris, each in a process of its own, or play one file to a target.

Run as `python -m tests.fuzz` (`make fuzz`). What it finds is in `build/fuzz`.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

FOUND: Final = Path("build", "fuzz")
_CHILD: Final = "--child"


def main() -> int:
    if sys.argv[1:2] == [_CHILD]:
        return run_atheris(sys.argv[2], sys.argv[3:])
    from tests.fuzz.targets import TARGETS, stage

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", nargs="?", choices=TARGETS, help="only this target")
    parser.add_argument("file", nargs="?", type=Path, help="play this file, without atheris")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    options = parser.parse_args()
    if options.file:
        with stage():
            TARGETS[options.target](options.file.read_bytes())
        return 0
    names = [options.target] if options.target else [*TARGETS]
    failed = [name for name in names if not fuzz(name, options.seconds)]
    for name in failed:
        print(f"{name}: FAILED. Repeat: .venv/bin/python -m tests.fuzz {name} {FOUND / name}-…")
    return 1 if failed else 0


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target in a process, which libFuzzer ends without cleaning up."""
    from tests.fuzz.targets import CORPUS

    grown = FOUND / name
    grown.mkdir(parents=True, exist_ok=True)
    print(f"{name}: {seconds} s", end="", flush=True)
    command = [sys.executable, "-m", "tests.fuzz", _CHILD, name, str(grown), str(CORPUS / name)]
    command += [f"-max_total_time={seconds}", f"-artifact_prefix={grown}-", "-max_len=2048"]
    command += ["-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"]
    ended = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    tried = re.search(r"number_of_executed_units: (\d+)", ended.stdout)
    print(f", {tried[1] if tried else 'no'} inputs")
    if ended.returncode:
        print(ended.stdout)
    return not ended.returncode


def run_atheris(name: str, arguments: list[str]) -> int:
    import atheris

    with atheris.instrument_imports(include=["e2b_upload"]):
        import e2b_upload.pipeline
        import e2b_upload.transfer.put  # noqa: F401  (otherwise imported later)
    from tests.fuzz.targets import TARGETS, stage

    with stage():
        atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
