"""What ``ls`` and ``explain`` show on standard output."""

from __future__ import annotations

import json
import re
import stat
import sys
import tempfile
from collections import Counter, deque
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from e2b_upload.archive.spool import default_folder
from e2b_upload.cli import github
from e2b_upload.cli.streams import is_read
from e2b_upload.cli.units import size
from e2b_upload.context.collect import Entry
from e2b_upload.context.weight import Largest
from e2b_upload.errors import SourceError, SpoolError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from e2b_upload.cli.report import Report
    from e2b_upload.context.explain import Decision
    from e2b_upload.events import Weight

_SIZE_COLUMNS = 9
_IN_MEMORY_BYTES = 8 * 1024 * 1024  # of JSON; what is longer waits on the disk
_LINES, _ASCII_LINES = ("├── ", "└── ", "│   ", "    "), ("|-- ", "`-- ", "|   ", "    ")
_URL = re.compile("https?:/+|&X-", re.IGNORECASE)
_NAMES = {
    "file": ("file", "files"),
    "directory": ("folder", "folders"),
    "symlink": ("link", "links"),
    "hardlink": ("hard link", "hard links"),
    "special": ("special file", "special files"),
}


class _Totals:
    """How many entries there are of each type, and what they hold."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.content_bytes = 0

    def counted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if entry.type == "special" and stat.S_ISSOCK(entry.stat.st_mode):
                continue  # no archive holds it
            self.counts[entry.type] += 1
            self.content_bytes += entry.size
            yield entry

    def __str__(self) -> str:
        told = [
            f"{count:,} {names[count != 1]}"
            for kind, names in _NAMES.items()
            if (count := self.counts[kind]) or kind == "file"
        ]
        return f"{', '.join(told)}; {size(self.content_bytes)} of content"


def list_entries(
    entries: Iterable[Entry],
    report: Report,
    context: str,
    *,
    largest: int | None,
    tree: bool,
    walked: bool,
) -> None:
    """Print what would be sent of a context, and on standard error what it comes to.

    Args:
        entries: what would be sent.
        report: where the rest goes.
        context: its name.
        largest: how many of the heaviest to print, in their place; None prints all.
        tree: whether to print them as a tree.
        walked: whether each folder comes before what it holds, and nothing else between.

    Raises:
        SourceError: what of the context cannot be sent, once the rest is printed; JSON tells it
            instead.
    """
    totals = _Totals()
    problems: list[SourceError] = []
    if not report.as_json:
        entries = _put_off(entries, problems)
    counted = totals.counted(entries)
    ranking = None if largest is None else Largest(largest)
    if ranking is not None:
        counted = _ranked(counted, ranking, walked=walked)
    if report.as_json:
        _print_json(counted, totals, ranking, report)
        return
    if tree:
        _print_tree(list(counted) if walked else _as_walked(counted), context)
    elif ranking is not None:
        deque(counted, maxlen=0)
        _print_largest(ranking.result(), totals.content_bytes)
    else:
        for entry in counted:
            _print(_line(entry.size if entry.type == "file" else None, _shown(entry)))
            if not is_read(sys.stdout):
                break
    if problems:
        raise problems[0]
    if is_read(sys.stdout):
        report.line(str(totals))


def _put_off(entries: Iterable[Entry], problems: list[SourceError]) -> Iterator[Entry]:
    """Yield entries, and keep the error that they end with: a tree is printed after the last."""
    try:
        yield from entries
    except SourceError as error:
        problems.append(error)


def _ranked(entries: Iterable[Entry], ranking: Largest, *, walked: bool) -> Iterator[Entry]:
    """Yield entries as they come, and rank them in the order of a walk."""
    if walked:
        for entry in entries:
            ranking.add(entry)
            yield entry
        return
    entries = [*entries]
    for entry in _as_walked(entries):
        ranking.add(entry)
    yield from entries


def _as_walked(entries: Iterable[Entry]) -> list[Entry]:
    """Return what E2B's SDK selects as a walk would meet it, with the folders that it lies in."""
    known = {entry.path: entry for entry in entries if entry.path != "."}
    for entry in [*known.values()]:
        folder = entry.path.rpartition("/")[0]
        while folder and folder not in known:
            known[folder] = Entry(folder, "directory", 0, 0, None, entry.stat)
            folder = folder.rpartition("/")[0]
    return sorted(known.values(), key=lambda entry: entry.path.split("/"))


def _print(line: str) -> None:
    print(github.harmless(line))


def _line(bytes_: int | None, shown: str) -> str:
    return f"{'' if bytes_ is None else size(bytes_):>{_SIZE_COLUMNS}}  {shown}"


def _shown(entry: Entry, name: str | None = None) -> str:
    shown = printable(entry.path if name is None else name)
    if entry.type == "directory":
        return f"{shown}/"
    if entry.type == "symlink":
        return f"{shown} -> {printable(entry.target or '')}"
    if entry.type == "hardlink":
        return f"{shown} = {printable(entry.target or '')}"
    return shown


def _print_tree(entries: Sequence[Entry], context: str) -> None:
    """Print folders with what they hold, each entry below its folder."""
    depths = [entry.path.count("/") for entry in entries]
    held = [entry.size for entry in entries]
    above: list[int] = []  # the folders that an entry lies in
    for i, depth in enumerate(depths):
        del above[depth:]
        for folder in above:
            held[folder] += held[i]
        above.append(i)
    # Whether there is another one after it in the same folder, which only the rest can tell.
    followed: list[bool] = []
    seen: set[int] = set()  # depths of which the rest holds an entry in the same folder
    for depth in reversed(depths):
        followed.append(depth in seen)
        seen = {each for each in seen if each < depth} | {depth}
    followed.reverse()
    more, last, on, past = _LINES if _can_show(_LINES) else _ASCII_LINES
    _print(_line(sum(entry.size for entry in entries), f"{printable(context).rstrip('/')}/"))
    lines: list[str] = []
    for i, entry in enumerate(entries):
        del lines[depths[i] :]
        name = _shown(entry, entry.path.rpartition("/")[2])
        shown = "".join(lines) + (more if followed[i] else last) + name
        _print(_line(held[i] if entry.type in {"file", "directory"} else None, shown))
        lines.append(on if followed[i] else past)
        if not is_read(sys.stdout):
            return


def _can_show(characters: Iterable[str]) -> bool:
    try:
        "".join(characters).encode(sys.stdout.encoding or "ascii")
    except UnicodeError:
        return False
    return True


def _print_largest(largest: Iterable[Weight], content_bytes: int) -> None:
    for weight in largest:
        share = f"{100 * weight.bytes // content_bytes:>3}%"
        slash = "/" if weight.is_directory else ""
        _print(f"{_line(weight.bytes, share)}  {printable(weight.path)}{slash}")


def _print_json(
    entries: Iterable[Entry], totals: _Totals, ranking: Largest | None, report: Report
) -> None:
    """Print one object, once it is whole: what fails on the way has an object of its own."""
    folder = default_folder()
    try:
        with tempfile.SpooledTemporaryFile(
            _IN_MEMORY_BYTES, "w+", encoding="ascii", dir=folder
        ) as text:
            _write_json(text, entries, totals, ranking)
            text.seek(0)
            report.copy(text)
    except OSError as error:
        raise SpoolError(
            f"the list cannot be written in {printable(folder)}: {error.strerror}",
            hint="Make room there, or set TMPDIR to a folder on another disk.",
        ) from error


def _write_json(
    text: IO[str], entries: Iterable[Entry], totals: _Totals, ranking: Largest | None
) -> None:
    text.write('{"entries": [')
    comma = ""
    for entry in entries:
        text.write(comma + github.harmless_json(json.dumps(_as_json(entry))))
        comma = ", "
    rest: dict[str, object] = {
        "files": totals.counts["file"],
        "directories": totals.counts["directory"],
        "symlinks": totals.counts["symlink"],
        "hardlinks": totals.counts["hardlink"],
        "content_bytes": totals.content_bytes,
    }
    if ranking is not None:
        rest["largest"] = [{"path": w.path, "bytes": w.bytes} for w in ranking.result()]
    text.write(f"], {github.harmless_json(json.dumps(rest))[1:]}\n")


def _as_json(entry: Entry) -> dict[str, object]:
    return {
        "path": entry.path,
        "type": entry.type,
        "size": entry.size,
        "mode": f"0{entry.mode:03o}",
        "target": entry.target,
    }


def show_decisions(decisions: Iterable[Decision], report: Report) -> None:
    """Print why each path is part of the context or not."""
    decisions = map(_without_query, decisions)
    if report.as_json:
        report.print_object({"paths": [_decision_as_json(each) for each in decisions]})
        return
    for decision in decisions:
        rule = decision.rule
        columns = [
            "kept" if decision.kept else "excluded",
            f"{printable(rule.source)}:{rule.line}:{printable(rule.text)}"
            if rule
            else "no pattern",
            printable(decision.path),
        ]
        if why := _remark(decision):
            columns.append(why)
        _print("\t".join(columns))


def _without_query(decision: Decision) -> Decision:
    """Return a decision as it may be shown: its path may be a URL, pasted by mistake."""
    rule = decision.rule
    return replace(
        decision,
        path=_hidden(decision.path),
        rule=rule and replace(rule, text=_hidden(rule.text)),
        matched=decision.matched and _hidden(decision.matched),
    )


def _hidden(text: str) -> str:
    if not _URL.search(text):
        return text
    from e2b_upload.transfer.redaction import redact, secrets_of  # what few paths need

    url = re.sub(":/+", "://", text, count=1)  # a path has one slash where a URL has two
    shown = redact(url, secrets_of(url))
    return text if shown == url else shown


def _remark(decision: Decision) -> str:
    """Return what the pattern alone does not tell."""
    told = []
    if decision.matched not in {None, decision.path}:
        told.append(f"by its folder {printable(decision.matched or '')}")
    if decision.comes_along:
        told.append("for what is kept in it")
    if decision.unfit is not None:
        told.append(f"a {decision.unfit} is not data")
    if decision.copied is False and decision.rule is None and decision.exists:
        told.append("no COPY takes it")
    if not decision.exists:
        told.append("does not exist")
    return f"({'; '.join(told)})" if told else ""


def _decision_as_json(decision: Decision) -> dict[str, object]:
    rule = decision.rule
    return {
        "path": decision.path,
        "kept": decision.kept,
        "rule": rule and {"source": rule.source, "line": rule.line, "pattern": rule.text},
    }
