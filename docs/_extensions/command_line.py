"""Directives that tell of the command line what the program itself knows of it.

``commands``, ``options``, ``environment``, ``exit-codes`` and ``credentials`` read the Typer app,
the error classes and the table of secrets whenever a page is built, so the pages cannot drift. What
the code has no room for stands in the directive's body, as a definition list in Markdown: each of
its terms names an option or an exit code, and one that names nothing is a warning.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import typer
from docutils import nodes
from rich.text import Text
from sphinx.util.docutils import SphinxDirective

from e2b_upload.cli.app import PROGRAM, app
from e2b_upload.cli.report import EXIT_BUG, SIGNALS
from e2b_upload.context import secrets
from e2b_upload.errors import Interrupted, UploadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

# What is typed as it stands: options, variables, file names, and the lone - that is a stream.
_TYPED = re.compile(
    r"(?<![\w/-])(--?[A-Za-z][\w-]*(?: -(?!\S))?|-(?!\S)|[A-Z]\w*_\w+|TMPDIR"
    r"|(?:CONTEXT)?/?\.dockerignore|CONTEXT)(?!\w)"
)
_OF_THE_PROGRAM = "The program itself"


@dataclass(frozen=True)
class Option:
    """An option as its users see it; two commands may share it.

    Attributes:
        names: short ones first.
        value: what stands for its value; empty for a flag.
        panel: the group that ``--help`` shows it in.
        text: what ``--help`` says of it.
        facts: what else there is to know, by name: its default, its environment variable.
    """

    names: tuple[str, ...]
    value: str
    panel: str
    text: str
    facts: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, param: Any, panels: Mapping[str, str]) -> Option:
        """Take an option of Typer's for what it is; one without a group goes to its namesake's."""
        facts = {}
        if choices := param.type_descriptor.choices:
            facts["One of"] = ", ".join(choices)
        if param.min is not None:
            facts["Range"] = f"from {param.min}" + (f" to {param.max:,}" if param.max else "")
        if param.show_default and param.default not in {None, False}:
            facts["Default"] = str(param.default)
        if param.envvar:
            facts["Environment"] = param.envvar
        names = tuple(sorted([*param.opts, *param.secondary_opts], key=len))
        return cls(
            names=names,
            value="" if param.is_flag else param.metavar,
            panel=param.rich_help_panel or panels.get(names[-1], _OF_THE_PROGRAM),
            text=param.help,
            facts=tuple(facts.items()),
        )

    @property
    def name(self) -> str:
        """The long one: what notes and links call it by."""
        return self.names[-1]


def commands() -> dict[str, Any]:
    """Return Typer's commands by name, in the order of ``--help``."""
    group: Any = typer.main.get_command(app)
    return {name: command for name, command in group.commands.items() if not command.hidden}


@cache
def options() -> dict[Option, list[str]]:
    """Return all options, group by group, each with the names of the commands that take it."""
    found: dict[Option, list[str]] = defaultdict(list)
    panels: dict[str, str] = {}
    for name, command in {**commands(), PROGRAM: typer.main.get_command(app)}.items():
        for param in _params(command, "option"):
            option = Option.read(param, panels)
            panels[option.name] = option.panel
            found[option].append(name)
    order = [*dict.fromkeys(panels.values())]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0].panel)))


def exit_codes() -> Iterator[tuple[str, str, str]]:
    """Yield each exit code with its kind and the first sentence that the code has on it."""
    yield "0", "", "Done."
    yield str(EXIT_BUG), "internal", "A bug: a short report asks for it to be filed."
    for error in sorted(UploadError.__subclasses__(), key=lambda error: error.exit_code):
        yield str(error.exit_code), error.kind, _first_sentence(error)
    signals = ", ".join(str(128 + number) for number in sorted(SIGNALS))
    yield signals, Interrupted.kind, _first_sentence(Interrupted)


class Commands(SphinxDirective):
    """A section for each command: how it is called, what it does, which options it takes."""

    def run(self) -> list[nodes.Node]:
        """Make the sections."""
        return [self._section(name, command) for name, command in commands().items()]

    def _section(self, name: str, command: Any) -> nodes.section:
        arguments = {_placeholder(param): param for param in _params(command, "argument")}
        items = [_item([_typed(shown)], prose(param.help)) for shown, param in arguments.items()]
        panels: dict[str, list[nodes.Node]] = defaultdict(list)
        for option, takers in options().items():
            if name in takers:
                panels[option.panel].append(_link(_anchor(option, name), _typed(option.name)))
        items += [
            _item([nodes.Text(panel)], [nodes.paragraph("", "", *_joined(links))])
            for panel, links in panels.items()
        ]
        section = nodes.section(
            "",
            nodes.title("", "", _typed(name)),
            _code(" ".join([PROGRAM, name, *arguments, "[options]"])),
            *prose(command.help),
            nodes.definition_list("", *items, classes=["simple"]),
            *prose(command.epilog),
        )
        _named(section, [f"command-{name}"], self)
        return section


class Options(SphinxDirective):
    """A section for each group of options, which describes each of them once."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Make the sections; the body's notes go to the options that they name."""
        notes = _notes(self, {option.name for option in options()})
        panels: dict[str, list[nodes.Node]] = defaultdict(list)
        for option, takers in options().items():
            item = self._item(option, takers, notes.get(option.name, []))
            panels[option.panel].append(item)
        return [
            nodes.section(
                "",
                nodes.title("", panel),
                nodes.definition_list("", *items, classes=["simple", "options"]),
                ids=[nodes.make_id(panel)],
            )
            for panel, items in panels.items()
        ]

    def _item(self, option: Option, takers: list[str], notes: Sequence[nodes.Node]) -> nodes.Node:
        title = _joined([_typed(name) for name in option.names])
        if option.value:
            title += [nodes.Text(" "), nodes.literal("", option.value, classes=["value"])]
        facts: list[nodes.Node] = []
        for name, fact in option.facts:
            facts += [nodes.Text(f"{name}: "), _typed(fact), nodes.Text(". ")]
        if takers != [PROGRAM]:
            links = [_link(f"command-{name}", _typed(name)) for name in takers]
            every = commands().keys() <= {*takers}
            which = [nodes.Text("all")] if every else _joined(links)
            facts += [nodes.Text("Commands: "), *which, nodes.Text(".")]
        body = [*prose(option.text), *(note.deepcopy() for note in notes)]
        if facts:
            body.append(nodes.paragraph("", "", *facts, classes=["facts"]))
        term = nodes.term("", "", *title)
        _named(term, dict.fromkeys(_anchor(option, name) for name in takers), self)
        return nodes.definition_list_item("", term, nodes.definition("", *body))


class Environment(SphinxDirective):
    """A table of the variables that stand in for options."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        rows = []
        for option, takers in options().items():
            if variable := dict(option.facts).get("Environment"):
                names = _joined([_typed(name) for name in takers])
                rows.append([[_typed(variable)], [_typed(option.name)], names])
        rows.sort(key=lambda row: row[0][0].astext())
        return [_table(["variable", "option", "commands"], rows)]


class ExitCodes(SphinxDirective):
    """A definition list of the exit codes, each with the kind of its failure."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Make the list; the body's notes go to the codes that they name."""
        codes = list(exit_codes())
        notes = _notes(self, {code for code, _, _ in codes})
        items = []
        for code, kind, text in codes:
            title = [_typed(code), nodes.Text(" "), nodes.emphasis("", kind)]
            items.append(_item(title if kind else title[:1], [*prose(text), *notes.get(code, [])]))
        return [nodes.definition_list("", *items, classes=["simple", "exit-codes"])]


class Credentials(SphinxDirective):
    """A table of the files that look like credentials."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        named = [(look, names.split()) for look, names in secrets._NAMES]
        named += [(look, [f"*.{end}" for end in ends.split()]) for look, ends in secrets._SUFFIXES]
        named += [
            (secrets._ENVIRONMENT, [".env.*"]),
            (secrets._KEY, [f"*{end}" for end in secrets._SSH_ENDINGS]),
            (secrets._KEY._replace(folder=".ssh/"), ["*"]),
        ]
        rows: list[list[list[nodes.Node]]] = [
            [_joined(map(_typed, names)), [nodes.Text(look.why)], _condition(look)]
            for look, names in named
        ]
        return [_table(["file", "is taken for", "if"], rows)]


def prose(text: str | None) -> Iterator[nodes.Node]:
    """Yield the paragraphs of a help text; lines that begin with $ are commands to type."""
    for block in Text.from_markup(inspect.cleandoc(text or "")).plain.split("\n\n"):
        typed = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
        said = " ".join(line for line in block.splitlines() if not line.startswith("$ "))
        if said:
            yield (nodes.rubric if typed else nodes.paragraph)("", "", *_inline(said))
        if typed:
            yield _code("\n".join(typed))


def _params(command: Any, kind: str) -> list[Any]:
    with command.make_context(command.name, [], resilient_parsing=True) as context:
        params = command.get_params(context)
    return [param for param in params if param.param_type_name == kind and not param.hidden]


def _condition(look: Any) -> list[nodes.Node]:
    """Return what else a file has to be, beside its name, to be taken for a credential."""
    told: list[nodes.Node] = []
    if look.folder:
        told += [nodes.Text("it lies in "), _typed(look.folder)]
    elif look.named:
        told += [nodes.Text("its name says so")]
    if look.holds:
        told += [nodes.Text(", and " if told else ""), nodes.Text("its content says so")]
    return told


def _placeholder(argument: Any) -> str:
    return f"{argument.metavar}{'...' * (argument.nargs == -1)}"


def _first_sentence(documented: type) -> str:
    paragraph = inspect.cleandoc(documented.__doc__ or "").partition("\n\n")[0]
    return re.split(r"(?<=\.)\s", paragraph)[0]


def _notes(directive: SphinxDirective, known: set[str]) -> dict[str, list[nodes.Node]]:
    """Read the body: what it says, by the term that it says it of."""
    notes = {}
    for node in directive.parse_content_to_nodes():
        for item in node.findall(nodes.definition_list_item):
            term, *definitions = item.children
            name = term.astext()
            if name not in known:
                directive.state.document.reporter.warning(
                    f"there is no {name} to write a note on", line=directive.lineno
                )
            notes[name] = [child for body in definitions for child in body.children]
    return notes


def _anchor(option: Option, command: str) -> str:
    """Return the id of an option: with its command, where it is another than its namesakes."""
    anchor = f"option{option.name[1:]}"
    first = next(other for other in options() if other.name == option.name)
    return anchor if option == first else f"{anchor}-{command}"


def _named(node: nodes.Element, names: Iterable[str], directive: SphinxDirective) -> None:
    """Let links find a node, from this page and from others."""
    node["ids"] += names
    node["names"] += names
    directive.state.document.note_explicit_target(node)


def _inline(text: str) -> Iterator[nodes.Node]:
    for number, part in enumerate(_TYPED.split(text)):
        if part:
            yield _typed(part) if number % 2 else nodes.Text(part)


def _typed(text: str) -> nodes.Node:
    return nodes.literal("", text)


def _code(text: str) -> nodes.Node:
    return nodes.literal_block(text, text, language="sh")


def _link(anchor: str, text: nodes.Node) -> nodes.Node:
    return nodes.reference("", "", text, refid=anchor, internal=True)


def _joined(parts: Iterable[nodes.Node]) -> list[nodes.Node]:
    return [node for part in parts for node in (nodes.Text(", "), part)][1:]


def _item(title: Iterable[nodes.Node], body: Iterable[nodes.Node]) -> nodes.Node:
    return nodes.definition_list_item("", nodes.term("", "", *title), nodes.definition("", *body))


def _table(head: Iterable[str], rows: Iterable[Iterable[Iterable[nodes.Node]]]) -> nodes.Node:
    def row(cells: Iterable[Iterable[nodes.Node]]) -> nodes.Node:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))

    top = row([nodes.Text(cell)] for cell in head)
    columns = [nodes.colspec(colwidth=1) for _ in top.children]
    body = nodes.tbody("", *map(row, rows))
    return nodes.table(
        "", nodes.tgroup("", *columns, nodes.thead("", top), body, cols=len(columns))
    )


def setup(app: Sphinx) -> ExtensionMetadata:
    """Tell Sphinx of the directives."""
    app.add_directive("commands", Commands)
    app.add_directive("options", Options)
    app.add_directive("environment", Environment)
    app.add_directive("exit-codes", ExitCodes)
    app.add_directive("credentials", Credentials)
    return {"parallel_read_safe": True, "version": "1"}
