"""What is planned for each build, drawn from the seed and the number of the build."""

import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast, get_args

from e2b_upload.archive.deflate import Compression
from tests.soak.faults import (
    BUFFERED,
    FAULTS,
    HELD,
    PASSING_5XX,
    PUT_OFF,
    Condition,
    Fault,
    Outcome,
    outcome,
)
from tests.soak.stores import DIALECTS

Client: TypeAlias = Literal["library", "async", "process"]
Where: TypeAlias = Literal["memory", "seaweed"]
Expect: TypeAlias = Literal["100", "silence", "417"]
"""How the server answers `Expect: 100-continue`."""
Moment: TypeAlias = Literal["spooling", "sending", "waiting"]
Trouble: TypeAlias = Literal[
    "none",
    "file changes",
    "spool folder missing",
    "output full",
    "spool full",
    "callback raises",
    "time is up",
    "stopped",
]

TROUBLES: Final[dict[Client, Sequence[Trouble]]] = {
    "library": (
        *("file changes", "spool folder missing", "output full", "callback raises", "time is up"),
    ),
    "async": ("stopped",),
    "process": ("spool full", "time is up", "stopped", "stopped", "stopped"),
}
SIGNALS: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
CONTEXTS: Final = ("small", "many", "big", "huge")
STOPPED: Final = 130
"""In place of an exit code: a build through the library that was cancelled."""
RAISED: Final = -1
"""The same, if the callback raised."""
MAX_TIME: Final = 0.6

EACH_5XX: Final = 5
"""One of this many builds meets a 5xx first, the next one each time, so that all occur."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All random choices of a build: the same for the same seed and number."""

    number: int
    client: Client
    store: Where
    dialect: str
    context: str
    compression: Compression
    threads: int
    retries: int
    condition: Condition
    expect: Expect
    keep: bool
    faults: tuple[tuple[str, float], ...]
    trouble: Trouble
    moment: Moment
    signal: signal.Signals
    at: float

    @property
    def names(self) -> list[str]:
        """What goes wrong, for the table."""
        if self.trouble == "stopped":
            return [f"stopped while {self.moment}"]
        if self.trouble != "none":
            return [self.trouble]
        return sorted({name for name, _ in self.faults}) or ["none"]

    @property
    def script(self) -> tuple[Fault, float] | None:
        """The only fault, if something else happens meanwhile."""
        if self.trouble == "time is up" or (
            self.trouble == "stopped" and self.moment != "spooling"
        ):
            return (HELD if self.moment == "sending" else PUT_OFF), self.at
        return None

    @property
    def outcome(self) -> Outcome:
        """The result of the faults, if nothing else happens."""
        met = [FAULTS[name] for name, _ in self.faults]
        expected = outcome(met, self.retries, self.condition)
        return expected._replace(connections=expected.connections + (self.expect == "417"))

    @property
    def codes(self) -> set[int]:
        """The possible exit codes."""
        stopped = 128 + self.signal if self.client == "process" else STOPPED
        codes: dict[Trouble, set[int]] = {
            "none": {self.outcome.code},
            "file changes": {3, self.outcome.code},  # it may have been read before
            "spool folder missing": {4},
            "output full": {4},
            "spool full": {4},
            "callback raises": {RAISED, self.outcome.code},  # there may be too few events
            "time is up": {5},
            "stopped": {stopped},
        }
        return codes[self.trouble]


def plan(seed: int, number: int, *, seaweed: bool = True) -> Plan:
    """Draw the plan of a build."""
    chance = random.Random(f"{seed}/{number}")
    client = cast("Client", chance.choices(get_args(Client), weights=(70, 15, 15))[0])
    store: Where = "seaweed" if chance.random() < 0.12 and seaweed else "memory"
    dialect = "s3" if store == "seaweed" else chance.choice([*DIALECTS])
    trouble = chance.choice(TROUBLES[client]) if chance.random() < 0.3 else "none"
    retries = chance.randint(1, 3)
    condition: Condition = "none"
    if DIALECTS[dialect].exists and chance.random() < 0.3:
        condition = chance.choice(("if_absent", "if_absent", "header"))
    possible = _possible(store, dialect, condition)
    # Sometimes one too many, so that the retries run out.
    count = min(chance.choice((0, 1, 1, 1, 1, 2, 2, 3)), retries + 1)
    moments: tuple[Moment, ...] = ("sending", "waiting")
    if client == "process" and trouble == "stopped":
        moments = get_args(Moment)
    compression = chance.choice(get_args(Compression))
    faults = [(name, chance.random()) for name in _sequence(chance, possible, count)]
    if faults and condition != "none" and chance.random() < 0.5:
        meets = [name for name in possible if FAULTS[name].lets_meet]
        faults[0] = (chance.choice(meets), chance.random())
    # The large one only in memory: SeaweedFS may take longer for it than the stall timeout.
    context = chance.choices(CONTEXTS, weights=(6, 6, 6, store == "memory"))[0]
    turn, rest = divmod(number, EACH_5XX)
    if rest == 0:
        trouble = "none"
        faults[:1] = [("5xx", (turn % len(PASSING_5XX) + 0.5) / len(PASSING_5XX))]
    if trouble == "spool full":
        context = "big"
    elif any(FAULTS[name].needs_bytes for name, _ in faults):
        context = "huge"
    return Plan(
        number=number,
        client=client,
        store=store,
        dialect=dialect,
        context=context,
        compression=compression,
        threads=chance.randint(1, 3),
        retries=retries,
        condition=condition,
        expect=chance.choice(get_args(Expect)) if context == "huge" else "100",
        keep=chance.random() < 0.2 and trouble != "output full",
        faults=tuple(faults),
        trouble=trouble,
        moment=chance.choice(moments),
        signal=chance.choice(SIGNALS),
        at=chance.random(),
    )


def _possible(store: Where, dialect: str, condition: Condition) -> list[str]:
    """Return the faults that a client can notice.

    With `if_absent`, a 412 means success, so only the store itself may send it.
    """
    kind = DIALECTS[dialect]
    return [
        name
        for name, fault in FAULTS.items()
        if name != "none"
        and (kind.known or not fault.needs_known)
        and (kind.told or not fault.needs_digest)
        and (store == "memory" or not fault.needs_bytes)
        and not (condition == "if_absent" and fault.effect == "exists")
    ]


def _sequence(chance: random.Random, possible: Sequence[str], count: int) -> Iterator[str]:
    """Draw faults; one fault is often followed by the same."""
    name = ""
    for _ in range(count):
        name = name if name and chance.random() < 0.4 else chance.choice(possible)
        yield name


def make_contexts(folder: Path) -> None:
    """Create the contexts of all builds."""
    chance = random.Random(0)
    files: dict[str, bytes] = {
        **{f"small/{n}": chance.randbytes(n * 700) for n in range(3)},
        **{f"many/{n % 7}/{n}": b"%d\n" % n * n for n in range(300)},
        "big/random": chance.randbytes(3 << 20),
        "big/zeros": bytes(1 << 20),
        "huge/random": chance.randbytes(BUFFERED + (1 << 20)),
        "small/.dockerignore": b"*.log\n",
        "small/left out.log": b"x",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
