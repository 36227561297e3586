"""Reads the Dockerfile."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def instructions(word: str, stage: int) -> list[str]:
    """Return the arguments of each instruction of a kind, such as RUN, in a stage."""
    text = re.sub(r"(?m)^#.*\n|\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    of_stage = re.split(r"(?m)^FROM ", text)[1 + stage]
    return re.findall(rf"(?m)^{word} (.*)", of_stage)
