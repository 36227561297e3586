"""What the Dockerfile says."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    """One instruction of a stage, its continued lines joined."""

    stage: int
    word: str
    text: str


def instructions() -> list[Instruction]:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    stage, read = -1, []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        if word:
            read.append(Instruction(stage, word, rest))
    return read
