"""Completion: what the program answers, and what real shells make of it on a terminal."""

import os
import re
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import tree_sitter
import tree_sitter_powershell

from e2b_upload.cli.completion import ASKED, INSTALL, SHOW
from tests.cli.conftest import Call
from tests.cli.harness import PATIENCE, QUERY, SECRETS, Place, terminal

PROMPT: Final = "ready> "
ARCHIVE: Final = "archive one.tar.gz"

COMMANDS: Final = ["build", "pack", "put", "ls", "explain", "hash"]
LEVELS: Final = ["fast", "default", "small", "none"]
SHELLS: Final = ["bash", "zsh", "fish", "powershell"]


def asked(*words: str) -> dict[str, str]:
    return {ASKED: "\n".join(["e2b-upload", *words])}


@pytest.mark.parametrize(
    ("words", "kind", "offered"),
    [
        ([""], "words", COMMANDS),
        (["p"], "words", ["pack", "put"]),
        (["nonsense"], "words", []),
        (["--v"], "words", ["--version"]),
        (["--show-completion", ""], "words", SHELLS),
        (["--install-completion", "z"], "words", ["zsh"]),
        (["build", ""], "folders", []),
        (["build", "ctx", ""], "folders", []),
        (["ls", "c"], "folders", []),
        (["put", ""], "files", []),
        (["explain", ""], "folders", []),
        (["explain", ".", ""], "files", []),
        (["explain", ".", "a", ""], "files", []),
        (["put", "--co"], "words", ["--connect-timeout", "--color"]),
        (["put", "--compression"], "words", []),
        (["build", "--compression", ""], "words", LEVELS),
        (["build", "--compression", "fa"], "words", ["fast"]),
        (["build", "--compression", "FA"], "words", []),
        (["build", "--compression=fa"], "words", ["--compression=fast"]),
        (["build", "--compression", "="], "words", LEVELS),  # as bash splits words
        (["build", "--compression", "=", "fa"], "words", ["fast"]),
        (["build", "--compression", "=", "fast", ""], "folders", []),
        (["build", "-o", ""], "files", []),
        (["build", "--output=a"], "files", []),
        (["build", "--spool-dir", ""], "folders", []),
        (["build", "--retries", ""], "words", []),
        (["build", "--dry-run", ""], "folders", []),
        (["build", "--dry-run", "--dry"], "words", []),  # it is given
        (["build", "-o", "a", "--outp"], "words", []),
        (["build", "-x", "a", "--ex"], "words", ["--exclude"]),  # it may be given again
        (["build", "--unknown", ""], "folders", []),
        (["build", "--unknown=a"], "words", []),
        (["build", "'my ctx'", "--url-"], "words", ["--url-file"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_may_stand_at_the_cursor(
    words: list[str], kind: str, offered: list[str], call: Call
) -> None:
    ended = call(env=asked(*words))
    assert (ended.code, ended.err) == (0, "")
    first, *lines = ended.out.decode().splitlines()
    assert (first, [line.partition("\t")[0] for line in lines]) == (kind, offered)


def test_options_and_commands_are_described(call: Call) -> None:
    assert call(env=asked("--v")).out == b"words\n--version\tShow the version\n"
    line = b"--retries\tFurther attempts where one may help\n"
    assert call(env=asked("put", "--retr")).out == b"words\n" + line


@pytest.mark.parametrize("words", [["--url", ""], ["--url"], [f"--url=http://h/k?{QUERY}"]])
def test_the_url_is_not_shown(words: list[str], call: Call) -> None:
    url = f"http://host/key?{QUERY}"
    ended = call(env={**asked("build", "--url", url, *words), "E2B_UPLOAD_URL": url})
    assert ended.code == 0
    assert not [secret for secret in SECRETS if secret in ended.out.decode() + ended.err]


def test_nothing_is_done_meanwhile(call: Call, place: Place) -> None:
    ended = call("build", "ctx", "--dry-run", "-o", "out", env=asked("--v"))
    assert ended.out.startswith(b"words\n")
    assert not (place.path / "out").exists()


def test_it_is_fast(place: Place) -> None:
    tell = "import atexit, sys\natexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    modules = place.run(python=tell, env=asked("build", "--")).err.split()
    assert {*modules} & {"pydantic", "rich", "requests", "pathspec", "re2", "isal"} == set()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_lines_for_a_shell_are_printed(shell: str, call: Call) -> None:
    ended = call(SHOW, shell)
    assert (ended.code, ended.err) == (0, "")
    assert b"Completion of e2b-upload in " in ended.out
    assert ASKED.encode() in ended.out


def test_powershell_reads_its_lines(call: Call) -> None:
    """Let its grammar say so: the shell itself is no package here."""
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    assert not parser.parse(call(SHOW, "powershell").out).root_node.has_error


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        ("bash", """exec bash -c '"$0" "$@"; true' "$0" "$@" """),
        ("zsh", """exec zsh -fc '"$0" "$@"; true' "$0" "$@" """),
        ("fish", """exec fish -Nc '$argv[1] $argv[2..]; true' "$0" "$@" """),
    ],
)
@pytest.mark.real
def test_the_shell_that_calls_needs_no_name(
    shell: str, script: str, place: Place, call: Call
) -> None:
    there(shell)
    ended = place.run(SHOW, sh=script)
    assert ended.code == 0, ended.err
    assert ended.out == call(SHOW, shell).out


def test_a_caller_that_is_no_shell(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("tcsh", "/bin/tcsh"))
    ended = call(INSTALL)
    assert ended.code == 2
    assert "Name one: bash, zsh, fish, powershell." in ended.err


def test_a_shell_that_does_not_complete(call: Call) -> None:
    ended = call(SHOW, "tcsh")
    assert ended.code == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish', 'powershell'" in ended.err


STARTS: Final = {
    "bash": (".bashrc", f"PS1='{PROMPT}'"),
    "zsh": (".zshrc", f"PS1='{PROMPT}'"),
    "fish": (
        ".config/fish/config.fish",
        f"set fish_greeting\nfunction fish_prompt\n    echo -n '{PROMPT}'\nend",
    ),
    "powershell": (".config/powershell/profile.ps1", "# mine"),
}
"""What a user has already, without an end of its last line."""

LINES: Final = {
    "bash": ".local/share/e2b-upload/completion.bash",
    "zsh": ".local/share/e2b-upload/completion.zsh",
    "fish": ".config/fish/completions/e2b-upload.fish",
    "powershell": ".local/share/e2b-upload/completion.ps1",
}


@pytest.fixture
def home(place: Place) -> Path:
    for name, text in STARTS.values():
        place.write(f"home/{name}", text.encode())
    return place.path / "home"


@pytest.mark.parametrize("shell", SHELLS)
def test_installing_adds_one_line_to_what_the_user_has(shell: str, home: Path, call: Call) -> None:
    name, before = STARTS[shell]
    call(INSTALL, shell)
    ended = call(INSTALL, shell)
    assert (ended.code, ended.out) == (0, b"")
    lines = home / LINES[shell]
    assert str(lines) in ended.err
    assert lines.read_bytes() == call(SHOW, shell).out
    if shell != "fish":  # it finds the file by itself
        assert str(home / name) in ended.err
        before += f"\n. {lines}\n" if shell != "powershell" else f"\n. '{lines}'\n"
    assert (home / name).read_text() == before


def test_installing_heeds_where_the_user_has_things(place: Place, call: Call) -> None:
    elsewhere = {
        name: str(place.path / "home" / name.lower())
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR")
    }
    for shell in SHELLS:
        assert call(INSTALL, shell, env=elsewhere).code == 0
    home = place.path / "home"
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()) == [
        ".bashrc",
        "xdg_config_home/fish/completions/e2b-upload.fish",
        "xdg_config_home/powershell/profile.ps1",
        "xdg_data_home/e2b-upload/completion.bash",
        "xdg_data_home/e2b-upload/completion.ps1",
        "xdg_data_home/e2b-upload/completion.zsh",
        "zdotdir/.zshrc",
    ]


def test_installing_where_nothing_can_be_written(place: Place, call: Call) -> None:
    place.write("home/.local", b"a file")
    ended = call(INSTALL, "bash")
    assert ended.code == 4
    assert "cannot be written: Not a directory" in ended.err
    assert f"{SHOW} bash" in ended.err


@pytest.mark.parametrize(
    "home",
    [None, "", ".", "two\nlines", "two\rlines"],
    ids=["none", "empty", "relative", "two lines", "carriage return"],
)
@pytest.mark.parametrize("shell", SHELLS)
def test_installing_needs_a_home(shell: str, home: str | None, place: Place) -> None:
    if home and home != ".":
        home = str(place.path / home)
    # A user whom the system does not know, as in a container.
    python = "import os, pwd\npwd.getpwuid = {}.__getitem__"
    if home is None:
        python += "\ndel os.environ['HOME']"
    before = sorted(place.path.rglob("*"))
    ended = place.run(INSTALL, shell, python=python, env={"HOME": home or ""})
    assert ended.code == 2, ended.err
    assert "no absolute path on one line" in ended.err
    assert "Set HOME" in ended.err
    assert f"{SHOW} {shell}" in ended.err
    assert sorted(place.path.rglob("*")) == before


def test_installing_needs_no_home_where_all_places_are_named(place: Place, call: Call) -> None:
    config = place.path / "config"
    assert call(INSTALL, "fish", env={"HOME": "", "XDG_CONFIG_HOME": str(config)}).code == 0
    assert (config / "fish/completions/e2b-upload.fish").is_file()


@pytest.mark.parametrize("folder", ["a\x0cb", "a\u2028b", "a'b", "a\udcffb"], ids=ascii)
def test_installing_twice_adds_one_line_whatever_the_name(
    folder: str, place: Place, home: Path, call: Call
) -> None:
    there("bash")
    data = {"XDG_DATA_HOME": str(place.path / folder)}
    assert call(INSTALL, "bash", env=data).code == 0
    once = (home / ".bashrc").read_bytes()
    assert call(INSTALL, "bash", env=data).code == 0
    assert (home / ".bashrc").read_bytes() == once
    asking = ["bash", "-c", ". .bashrc; complete -p e2b-upload"]
    assert subprocess.run(asking, cwd=home, check=False).returncode == 0


@pytest.mark.parametrize("name", [LINES["bash"], ".bashrc"])
@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a device"])
def test_installing_where_there_is_no_regular_file(name: str, kind: str, place: Place) -> None:
    path = place.path / "home" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    ended = place.run(INSTALL, "bash")
    assert ended.code == 4
    why = "Is a directory" if kind == "a folder" else "it is no regular file"
    assert f"{path} cannot be written: {why}\n" in ended.err
    assert f"{SHOW} bash" in ended.err


LARGEST: Final = 1 << 20
"""Bytes: room enough for what measures coverage."""

FULL: Final = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({LARGEST}, {LARGEST}))"


@pytest.mark.parametrize("end", ["\n", ""], ids=["a whole line", "a line without end"])
def test_half_a_line_is_not_left_where_the_disk_is_full(end: str, place: Place, home: Path) -> None:
    text = b"#" * (LARGEST - 9) + end.encode()
    place.write("home/.bashrc", text)
    ended = place.run(INSTALL, "bash", python=FULL)
    assert ended.code == 4
    assert f"{home / '.bashrc'} cannot be written: File too large\n" in ended.err
    assert (home / ".bashrc").read_bytes() == text


def test_half_a_script_is_not_left_where_the_disk_is_full(place: Place, call: Call) -> None:
    assert call(INSTALL, "bash").code == 0
    size = len(call(SHOW, "bash").out) // 2
    # Not for the whole process: its coverage is kept, too.
    halved = f"""
import os
from e2b_upload.cli import completion
class Disk:
    def __getattr__(self, name):
        return getattr(os, name)
    def write(self, descriptor, data):
        if len(data) <= {size}:
            raise OSError(28, os.strerror(28))
        return os.write(descriptor, data[:-{size}])
completion.os = Disk()"""
    ended = place.run(INSTALL, "bash", python=halved)
    assert ended.code == 4
    lines = place.path / "home" / LINES["bash"]
    assert f"{lines} cannot be written: No space left on device\n" in ended.err
    assert lines.read_bytes() == b""  # which a shell reads without complaint


def there(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


@dataclass(frozen=True)
class Typist:
    """Somebody at a shell's prompt in a folder, who presses keys."""

    place: Place
    home: Path

    def types(self, shell: str, keys: str, program: str = "bin/e2b-upload") -> list[str]:
        """Return the arguments that a command has been given when all is typed.

        Whatever is typed, no shell complains of it.
        """
        typed = self.place.path / "typed"
        # In place of the program: it answers when it is asked, and tells what it was called with.
        self.place.write(
            program,
            f"""#!/bin/sh
            [ -z "${{{ASKED}+set}}" ] || exec '{sys.executable}' -m e2b_upload
            printf '%s\\0' "$@" >'{typed}.part' && mv '{typed}.part' '{typed}'
            """.encode(),
        ).chmod(0o755)
        path = f"{self.place.path / 'bin'}:{os.defpath}"
        more = {"PATH": path, "TERM": "xterm", "TMPDIR": str(self.home)}
        with (
            terminal(200) as (screen, stream),
            subprocess.Popen(
                [sys.executable, "-ISc", OWNING_ITS_TERMINAL, shell, "-i"],
                cwd=self.place.path,
                env=self.place.environment(more),
                stdin=stream,
                stdout=stream,
                stderr=stream,
            ) as process,
        ):
            stream.close()
            try:
                seen = b""
                deadline = time.monotonic() + PATIENCE
                while not typed.exists():
                    assert time.monotonic() < deadline, seen
                    if select.select([screen], [], [], 0.05)[0]:
                        seen += screen.read(1 << 16)
                    if keys and PROMPT.encode() in seen:
                        os.write(screen.fileno(), f"{keys}\r".encode())
                        keys = ""
            finally:
                process.kill()
        assert not re.search(rb"(?i)no such file|not found|unknown command|substitution", seen), (
            seen
        )
        return typed.read_bytes().decode().split("\0")[:-1]


OWNING_ITS_TERMINAL: Final = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def typist(place: Place, home: Path) -> Typist:
    place.write(ARCHIVE, b"")
    place.write("configuration", b"")
    return Typist(place, home)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("bui\t--compr\tfa\tct\t", ["build", "--compression", "fast", "ctx"]),
        ("build --compression=fa\t", ["build", "--compression=fast"]),
        ("build c\t", ["build", "ctx"]),
        ("build --spool-d\tsp\t", ["build", "--spool-dir", "spool"]),
        ("put arch\t", ["put", ARCHIVE]),
        ("build ctx --output=arch\t", ["build", "ctx", f"--output={ARCHIVE}"]),
        (
            f"put '{ARCHIVE}' --url-\tconf\t",
            ["put", ARCHIVE, "--url-file", "configuration"],
        ),
    ],
    ids=["words", "--option=", "a folder", "its folder", "a file", "--option=file", "quoted"],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.real
def test_a_shell_completes(
    shell: str, keys: str, words: list[str], typist: Typist, call: Call
) -> None:
    there(shell)
    assert call(INSTALL, shell).code == 0
    assert [word.rstrip("/") for word in typist.types(shell, f"e2b-upload {keys}")] == words


@pytest.mark.parametrize("folder", ["~", "$HOME", "${HOME}"])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.real
def test_a_program_by_a_path_that_the_shell_expands(
    shell: str, folder: str, typist: Typist, call: Call
) -> None:
    there(shell)
    assert call(INSTALL, shell).code == 0
    if shell == "fish":  # it reads its lines when one is in its path, too
        typist.place.write("bin/e2b-upload", b"").chmod(0o755)
        folder = folder.replace("${HOME}", "{$HOME}")
    keys = f"{folder}/venv/bin/e2b-upload put --retr\t1 arch\t"
    words = typist.types(shell, keys, "home/venv/bin/e2b-upload")
    assert words == ["put", "--retries", "1", ARCHIVE]


@pytest.mark.parametrize(
    "folder", ["$(touch ran)", "`touch ran`", "(touch ran)", "~unknown", "$NONE"]
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.real
def test_a_key_runs_nothing_that_is_typed(
    shell: str, folder: str, typist: Typist, call: Call
) -> None:
    there(shell)
    assert call(INSTALL, shell).code == 0
    erase = "\x15"
    keys = f"{folder}/e2b-upload put --retr\t{erase}e2b-upload put --retr\t1"
    assert typist.types(shell, keys) == ["put", "--retries", "1"]
    assert not (typist.place.path / "ran").exists()


@pytest.mark.real
def test_zsh_finds_it_in_its_own_path(typist: Typist, call: Call, place: Place) -> None:
    there("zsh")
    place.write("home/functions/_e2b-upload", call(SHOW, "zsh").out)
    found = "\nfpath+=(~/functions); autoload -Uz compinit; compinit -i\n"
    place.write("home/.zshrc", (STARTS["zsh"][1] + found).encode())
    keys = "e2b-upload put --retr\t1 arch\t"
    assert typist.types("zsh", keys) == ["put", "--retries", "1", ARCHIVE]
