"""Every `authz` command line in the documentation is one that `authz` takes. None of them is run."""

import re
import shlex
from collections.abc import Iterator

import pytest

from authz.cli.main import app
from tests.docs.pages import DOCS, PAGES, blocks

_WRAPPERS = {"sudo": 2, "exec": 0}  # a word before the command, and how many options of its own follow


def command_lines(script: str) -> Iterator[list[str]]:
    """The words of each `authz` call in a shell script, without redirections."""
    script = re.sub(r"\\\n", " ", script)
    script = re.sub(r"\$\(([^()]*)\)", r"; \1 ;", script)
    for line in script.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();|&"):
                yield from _of_authz(command)
                command = []
            else:
                command.append(word)


def _of_authz(words: list[str]) -> Iterator[list[str]]:
    for redirection in ("<", ">", ">>"):
        if redirection in words:
            words = words[: words.index(redirection)]
    while words and (words[0] in _WRAPPERS or re.match(r"\w+=", words[0])):
        words = words[1 + _WRAPPERS.get(words[0], 0) :]
    if words and words[0].rpartition("/")[2] == "authz":
        yield words[1:]


DOCUMENTED = [
    pytest.param(words, id=f"{block.place} {' '.join(words)}")
    for block in blocks("sh")
    for words in command_lines(block.text)
]


@pytest.mark.parametrize("words", DOCUMENTED)
def test_the_command_line_parses(words: list[str]) -> None:
    app.parse_args(words, exit_on_error=False, print_error=False)


def test_commands_are_found() -> None:
    found = list(
        command_lines("(umask 077; sudo -u x /opt/bin/authz keys list < a) && X=$(authz a b) | tee authz")
    )
    assert found == [["keys", "list"], ["a", "b"]]
    assert len(DOCUMENTED) >= 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_named_in_the_text_exist(page: object) -> None:
    """`authz keys rotate ID` in a sentence: its first words name a command."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)  # type: ignore[attr-defined]
    wrong = []
    for line in re.findall(r"`authz ([a-z][^`]*)`", text):
        for words in _alternatives(line.split()):
            _, _, left = app.parse_commands(words)
            if left and re.fullmatch(r"[a-z]+", left[0]) and not _takes_words(words):
                wrong.append(line)
    assert wrong == []


def _alternatives(words: list[str]) -> list[list[str]]:
    """`keys|users|teams update` names three commands."""
    return [[name, *words[1:]] for name in words[0].split("|")]


def _takes_words(words: list[str]) -> bool:
    """Whether what follows the command is its argument: `render nginx`."""
    chain, apps, _ = app.parse_commands(words)
    return bool(chain) and apps[-1].default_command is not None


def test_the_sections_of_this_test_are_there() -> None:
    assert {page.name for page in DOCS.glob("*.md")} >= {
        "configuration.md", "credentials.md", "errors.md", "gateways.md", "limits.md", "operations.md",
    }  # fmt: skip
