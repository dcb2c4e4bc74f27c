"""Every broken file: each mistake on its line and column, all of them at once, and no secret in any message.

`broken/NAME.yaml` is the file, `broken/NAME.txt` what `authz config validate` says of it.
"""

import traceback
from pathlib import Path

import pytest

from authz.authorize.conditions import BadCondition
from authz.authorize.conditions import compile_condition as compile_cel
from authz.config import ConfigErrors, loads
from authz.limit.tokenizer import read_tokenizer

BROKEN = Path(__file__).parent / "broken"
NAMES = sorted(path.stem for path in BROKEN.glob("*.yaml"))
ENVIRON = {
    "EDGE_TOKEN": "e" * 20,
    "ADMIN_TOKEN": "a" * 20,
    "EMPTY": " ",
    "SIGN_KEY": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=",
}
SECRETS = ("hunter2", "7777777777777", *(secret for secret in ENVIRON.values() if secret.strip()))


def compile_condition(text: str) -> None:
    """Stands for CEL: it knows where the mistake is, or does not."""
    if " = " in text:
        raise BadCondition("`=` is not an operator", text.index(" = ") + 1)
    if "no offset" in text:
        raise ValueError("this does not parse")


def errors_of(content: bytes | str) -> ConfigErrors:
    with pytest.raises(ConfigErrors) as raised:
        loads(
            content,
            file="authz.yaml",
            directory=Path("/nowhere"),
            environ=ENVIRON,
            compile_condition=compile_condition,
            read_tokenizer=read_tokenizer,
        )
    return raised.value


def test_enough_broken_files() -> None:
    assert len(NAMES) >= 30


@pytest.mark.parametrize("name", NAMES)
def test_every_mistake_is_located(name: str) -> None:
    errors = errors_of((BROKEN / f"{name}.yaml").read_bytes())
    expected = (BROKEN / f"{name}.txt").read_text().splitlines()
    assert [str(problem).removeprefix("authz.yaml:") for problem in errors.problems] == expected


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_in_the_error_or_its_traceback(name: str) -> None:
    errors = errors_of((BROKEN / f"{name}.yaml").read_bytes())
    shown = "".join(traceback.format_exception(errors)) + repr(errors) + repr(errors.problems)
    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.parametrize(
    ("content", "line", "column", "fragment"),
    [
        pytest.param(b"", 1, 1, "the file is empty", id="empty"),
        pytest.param(b"# nothing\n\n", 1, 1, "the file is empty", id="only comments"),
        pytest.param(b"\xef\xbb\xbfstore: memory://\n", 1, 1, "byte order mark", id="86 UTF-8 BOM"),
        pytest.param("store: x\n".encode("utf-16"), 1, 1, "not UTF-8", id="86 UTF-16"),
        pytest.param(b"a: 1\nb: \xe4\n", 2, 4, "not UTF-8", id="38 latin-1"),
        pytest.param("a: é\x00".encode(), 1, 5, "U+0000", id="39 NUL"),
        pytest.param("a: 1\nb: x\u2028c: 2\n".encode(), 2, 5, "U+2028", id="line separator"),
        pytest.param(b"#" * (1 << 20) + b"\n", 1, 1, "larger than 1 MiB", id="92 too large"),
        pytest.param(b"a: " + b"[" * 5000, 1, 28, "nested deeper", id="61 nesting"),
        pytest.param(b"a: " + b"{a: " * 5000, 1, 100, "nested deeper", id="61 nested mappings"),
        pytest.param(b"text", 1, 1, "a mapping of keys", id="text"),
        pytest.param(b"a: &a\n  b: *a\n", 2, 6, "no finished &a", id="alias of itself"),
        pytest.param(b"\xe2\x82\xac: 1\r\nstore: 5\r\n", 2, 8, "a store's URL", id="CRLF"),
        pytest.param(
            "gateways: {é: {kind: envoy, tokn: x}}".encode(), 1, 29, "tokn", id="columns are characters"
        ),
    ],
)
def test_what_no_editor_shows(content: bytes, line: int, column: int, fragment: str) -> None:
    problems = errors_of(content).problems
    assert [p for p in problems if (p.line, p.column) == (line, column) and fragment in p.message], problems


def test_deep_aliases_are_bounded() -> None:
    chain = "".join(f"  x{i}: &x{i} {{a: *x{i - 1}}}\n" for i in range(1, 40))
    assert "nested deeper" in str(errors_of(f"limits:\n  x0: &x0 {{}}\n{chain}"))


def test_problems_come_in_the_order_of_the_file() -> None:
    errors = errors_of((BROKEN / "everything_at_once.yaml").read_bytes())
    places = [(problem.line, problem.column) for problem in errors.problems]
    assert places == sorted(places)
    assert len(places) >= 8


def test_a_flood_of_mistakes_is_cut() -> None:
    problems = errors_of("".join(f"k{number}: 1\n" for number in range(2000))).problems
    assert len(problems) == 501
    assert str(problems[-1]) == "authz.yaml:501:1: and 1500 more mistakes from here on"


def test_condition_without_offset_is_located_at_its_value() -> None:
    text = (BROKEN / "conditions.yaml").read_text().replace('"no \\x6ffset"', '"no offset"')
    assert "11:15: this does not parse" in str(errors_of(text))


@pytest.mark.parametrize(
    ("condition", "place", "fragment"),
    [
        ("subject.user == 'x' &&& true", "6:47", "does not parse"),
        ("subjct.user == 'x'", "6:25", "uses subjct"),
        ("true && missing", "6:33", "uses missing"),
        ("true && subject.rols == 'x'", "6:33", "uses subject.rols"),
        ("subject.team == 'a' || request.path == 5", "6:61", "no matching overload"),
        ("true || in_network(ip, 'here')", "6:49", "'here' is not a network"),
    ],
)
def test_mistakes_in_cel_are_located_inside_the_text(condition: str, place: str, fragment: str) -> None:
    text = f"""authenticators: {{keys: {{type: api_key}}}}
routes:
  - name: a
    match: {{paths: [/a]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{when: "{condition}"}}]
"""
    with pytest.raises(ConfigErrors) as raised:
        loads(text, compile_condition=compile_cel)
    (problem,) = raised.value.problems
    assert fragment in problem.message
    assert f"{problem.line}:{problem.column}" == place


def test_a_variable_that_was_meant_is_suggested() -> None:
    text = """authenticators: {keys: {type: api_key}}
routes:
  - name: a
    match: {paths: [/a]}
    authenticate: {any_of: [keys]}
    authorize: [{when: "'ml' in subject.rols"}]
"""
    with pytest.raises(ConfigErrors) as raised:
        loads(text, compile_condition=compile_cel)
    assert raised.value.problems[0].suggestion == "subject.roles"
