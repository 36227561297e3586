"""Directives that tell of the command line what the program itself knows of it.

``commands``, ``options``, ``environment`` and ``exit-codes`` read the Typer app and the error
classes whenever a page is built, so the pages cannot drift. What the code has no room for stands in
the directive's body, as a definition list in Markdown: each of its terms names an option or an exit
code, and one that names nothing is a warning.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from e2b_upload.cli.app import PROGRAM, app
from e2b_upload.cli.report import EXIT_BUG, SIGNALS
from e2b_upload.errors import Interrupted, UploadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

# What is typed as it stands: options, variables, file names, and the lone - that is a stream.
_TYPED = re.compile(
    r"(?<![\w/-])(--?[A-Za-z][\w-]*(?:[ ]-(?!\S))?|-(?!\S)|[A-Z]\w*_\w+|TMPDIR"
    r"|(?:CONTEXT)?/?\.dockerignore|CONTEXT)(?!\w)"
)
_OF_THE_PROGRAM = "Help and version"


@dataclass(frozen=True)
class Option:
    """An option as its users see it; two commands may share it.

    Attributes:
        names: short ones first.
        value: what stands for its value, or what may stand there; empty for a flag.
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
    def read(cls, param: Any) -> Option:
        """Take an option of Typer's for what it is."""
        facts = {}
        if param.show_default and param.default not in {None, False}:
            facts["Default"] = str(param.default)
        if param.min is not None or param.max is not None:
            facts["Range"] = f"{param.min} to {param.max}" if param.max else f"from {param.min}"
        if param.envvar:
            facts["Environment"] = param.envvar
        value = ""
        if not param.is_flag:
            choices = param.type_descriptor.choices
            value = "|".join(map(str, choices)) if choices else param.metavar
        return cls(
            names=tuple(sorted([*param.opts, *param.secondary_opts], key=len)),
            value=value,
            panel=param.rich_help_panel or _OF_THE_PROGRAM,
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


def options() -> dict[Option, list[str]]:
    """Return all options, group by group, each with the names of the commands that take it."""
    found: dict[Option, list[str]] = defaultdict(list)
    for name, command in {**commands(), PROGRAM: typer.main.get_command(app)}.items():
        for option in _params(command, "option"):
            found[Option.read(option)].append(name)
    panels = list(dict.fromkeys(option.panel for option in found if option.panel))
    panels.sort(key=lambda panel: panel == _OF_THE_PROGRAM)
    return dict(sorted(found.items(), key=lambda item: panels.index(item[0].panel)))


def _params(command: Any, kind: str) -> list[Any]:
    with command.make_context(command.name, [], resilient_parsing=True) as context:
        params = command.get_params(context)
    return [param for param in params if param.param_type_name == kind and not param.hidden]


class Commands(SphinxDirective):
    """A section for each command: how it is called, what it does, which options it takes."""

    def run(self) -> list[nodes.Node]:
        """Make the sections."""
        return [self._section(name, command) for name, command in commands().items()]

    def _section(self, name: str, command: Any) -> nodes.section:
        title = nodes.title("", "", _typed(name))
        section = nodes.section("", title, ids=[f"command-{name}"], names=[f"command-{name}"])
        self.state.document.note_explicit_target(section)
        arguments = _params(command, "argument")
        words = [PROGRAM, name, *(_placeholder(argument) for argument in arguments)]
        for option in _params(command, "option"):
            if option.required:
                words += [option.opts[0], option.metavar]
        section += _code(" ".join([*words, "[options]"]))
        section += prose(command.help)
        section += prose(command.epilog or "")
        items = [
            _item([_typed(_placeholder(argument))], prose(argument.help))
            for argument in arguments
        ]
        panels: dict[str, list[Option]] = defaultdict(list)
        for option, takers in options().items():
            if name in takers and option.panel != _OF_THE_PROGRAM:
                panels[option.panel].append(option)
        for panel, its in panels.items():
            links = [_link(_anchor(option, name), _typed(option.name)) for option in its]
            items.append(_item([nodes.Text(panel)], [_line(links)]))
        section += nodes.definition_list("", *items, classes=["simple", "summary"])
        return section


class Options(SphinxDirective):
    """A section for each group of options, which describes each of them once."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Make the sections; the body's notes go to the options that they name."""
        sections: dict[str, nodes.section] = {}
        notes = _notes(self, {option.name for option in options()})
        for option, takers in options().items():
            if option.panel not in sections:
                sections[option.panel] = _titled(option.panel)
                sections[option.panel] += nodes.definition_list(classes=["simple", "options"])
            item = self._item(option, takers, notes.get(option.name, []))
            sections[option.panel][1].append(item)
        return list(sections.values())

    def _item(
        self, option: Option, takers: Sequence[str], notes: Sequence[nodes.Node]
    ) -> nodes.definition_list_item:
        term: list[nodes.Node] = []
        for name in option.names:
            term += [nodes.Text(", ")] * bool(term) + [_typed(name)]
        if option.value:
            term += [nodes.Text(" "), _typed(option.value, classes=["value"])]
        facts: list[nodes.Node] = []
        for name, fact in option.facts:
            facts += [nodes.Text(f"{name}: "), _typed(fact), nodes.Text(". ")]
        if option.panel != _OF_THE_PROGRAM:
            links = [_link(f"command-{name}", _typed(name)) for name in takers]
            facts += [nodes.Text("Commands: "), *_line(links).children, nodes.Text(".")]
        body = [*prose(option.text), *(note.deepcopy() for note in notes)]
        if facts:
            body.append(nodes.paragraph("", "", *facts, classes=["facts"]))
        item = _item(term, body)
        anchors = dict.fromkeys(_anchor(option, name) for name in takers)
        item[0]["ids"] += anchors
        item[0]["names"] += anchors
        self.state.document.note_explicit_target(item[0])
        return item


class Environment(SphinxDirective):
    """A table of the variables that stand in for options."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        rows: dict[str, list[Option]] = defaultdict(list)
        for option in options():
            if variable := dict(option.facts).get("Environment"):
                rows[variable].append(option)
        return [
            _table(
                ["variable", "option", "commands"],
                (
                    [
                        [_typed(variable)],
                        [_typed(its[0].name)],
                        _line(
                            [_typed(name) for option in its for name in options()[option]]
                        ).children,
                    ]
                    for variable, its in sorted(rows.items())
                ),
            )
        ]


class ExitCodes(SphinxDirective):
    """A definition list of the exit codes, each with the kind of its failure."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Make the list; the body's notes go to the codes that they name."""
        codes = list(exit_codes())
        notes = _notes(self, {code for code, _, _ in codes})
        items = []
        for code, kind, text in codes:
            term = [_typed(code), *([nodes.Text(" "), nodes.emphasis("", kind)] if kind else [])]
            items.append(_item(term, [*prose(text), *notes.get(code, [])]))
        return [nodes.definition_list("", *items, classes=["simple", "exit-codes"])]


def exit_codes() -> Iterator[tuple[str, str, str]]:
    """Yield each exit code with its kind and the first sentence that the code has on it."""
    yield "0", "", "Done."
    yield str(EXIT_BUG), "internal", "A bug: a short report asks for it to be filed."
    for error in sorted(UploadError.__subclasses__(), key=lambda error: error.exit_code):
        yield str(error.exit_code), error.kind, _first_sentence(error)
    signals = ", ".join(str(128 + number) for number in sorted(SIGNALS))
    yield signals, Interrupted.kind, _first_sentence(Interrupted)


def _first_sentence(documented: type) -> str:
    paragraph = inspect.cleandoc(documented.__doc__ or "").partition("\n\n")[0]
    return re.split(r"(?<=\.)\s", paragraph)[0]


def prose(text: str) -> list[nodes.Element]:
    """Return the paragraphs of a help text; indented ones are commands as they are typed."""
    blocks = inspect.cleandoc(text).split("\n\n") if text else []
    return [
        _code(inspect.cleandoc(block))
        if block.startswith((" ", "\b"))
        else nodes.paragraph("", "", *_inline(" ".join(block.split())))
        for block in blocks
    ]


def _inline(text: str) -> Iterator[nodes.Node]:
    for number, part in enumerate(_TYPED.split(text)):
        if part:
            yield _typed(part) if number % 2 else nodes.Text(part)


def _placeholder(argument: Any) -> str:
    name: str = argument.metavar or argument.name.upper()
    return name + "…" * (argument.nargs == -1 and not name.endswith(("…", "...")))


def _code(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="sh")


def _anchor(option: Option, command: str) -> str:
    """Return the id of an option: with its command where others have one of that name."""
    alike = [other for other in options() if other.name == option.name]
    name = option.name.lstrip("-")
    return f"option-{name}" if option is alike[0] or option == alike[0] else f"option-{name}-{command}"


def _typed(text: str, **attributes: Any) -> nodes.literal:
    return nodes.literal("", text, **attributes)


def _link(anchor: str, text: nodes.Node) -> nodes.reference:
    return nodes.reference("", "", text, refid=anchor, internal=True)


def _line(parts: Iterable[nodes.Node]) -> nodes.paragraph:
    line = nodes.paragraph()
    for part in parts:
        line += [nodes.Text(", ")] * bool(line.children) + [part]
    return line


def _item(term: Sequence[nodes.Node], body: Sequence[nodes.Node]) -> nodes.definition_list_item:
    return nodes.definition_list_item(
        "", nodes.term("", "", *term), nodes.definition("", *body)
    )


def _titled(title: str) -> nodes.section:
    name = nodes.make_id(title)
    return nodes.section("", nodes.title("", title), ids=[name], names=[name])


def _table(head: Sequence[str], rows: Iterable[Sequence[Sequence[nodes.Node]]]) -> nodes.table:
    def row(cells: Iterable[Sequence[nodes.Node]]) -> nodes.row:
        return nodes.row(
            "", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells)
        )

    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += nodes.thead("", row([nodes.Text(cell)] for cell in head))
    group += nodes.tbody("", *map(row, rows))
    return nodes.table("", group)


def _notes(directive: SphinxDirective, known: set[str]) -> Mapping[str, list[nodes.Node]]:
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


def setup(app: Sphinx) -> ExtensionMetadata:
    """Tell Sphinx of the directives."""
    app.add_directive("commands", Commands)
    app.add_directive("options", Options)
    app.add_directive("environment", Environment)
    app.add_directive("exit-codes", ExitCodes)
    return {"parallel_read_safe": True, "version": "1"}
