"""Secrets: read from where they are named, shown nowhere."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.config import ConfigErrors, Loaded, SecretMissing, load, loads
from tests.config.conftest import ENVIRON, SECRETS

LITERALS = """
store: redis://:the-password-of-redis@localhost:6379/0
admin:
  tokens:
    ops: {value: the-literal-token-of-ops, role: admin}
gateways:
  edge: {kind: envoy, token: the-literal-token-of-edge}
"""


def shown(loaded: Loaded) -> str:
    config = loaded.config
    return "\n".join(
        [
            repr(loaded),
            str(loaded),
            str(config),
            str(config.model_dump()),
            config.model_dump_json(),
            json.dumps(config.model_dump(mode="json")),
            *map(repr, [*config.gateways.values(), config.admin, *config.backends.values(), loaded.store]),
            str(loaded.store),
        ]
    )


def test_secrets_of_files_and_environment_are_shown_nowhere(example: Path) -> None:
    loaded = load(example, environ=ENVIRON)
    assert [text for text in SECRETS.values() if text in shown(loaded)] == []


def test_literal_secrets_are_shown_nowhere_and_warned_of() -> None:
    loaded = loads(LITERALS, environ={})
    secrets = ["the-password-of-redis", "the-literal-token-of-ops", "the-literal-token-of-edge"]
    assert [text for text in secrets if text in shown(loaded)] == []
    found = [(w.line, w.column) for w in loaded.warnings if "a secret stands in the file itself" in w.message]
    assert found == [(2, 8), (5, 10), (7, 30)]
    assert loaded.store.reveal() == "redis://:the-password-of-redis@localhost:6379/0"
    assert str(loaded.store) == "redis://localhost:6379"


def test_secrets_are_revealed_trimmed_and_digested(example: Path) -> None:
    config = load(example, environ=ENVIRON).config
    token = config.gateways["edge"].token
    assert token is not None
    assert token.reveal() == SECRETS["edge"]
    assert token.digest == sha256(SECRETS["edge"].encode()).digest()
    assert repr(token) == f"Secret(file {example.parent / 'edge'})"
    assert config.admin.token is not None
    assert config.admin.token.reveal() == SECRETS["env"]


def test_admin_tokens_carry_their_secret(write: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "n").write_text("the-token-of-nlp-team\n")
    loaded = load(
        write(
            "admin: {tokens: {nlp: {file: n, role: team-admin, teams: [nlp]}, ops: {env: OPS, role: admin}}}"
        ),
        environ={"OPS": "the-token-of-operations"},
    )
    tokens = loaded.config.admin.tokens
    assert tokens["nlp"].secret.reveal() == "the-token-of-nlp-team"
    assert (tokens["nlp"].role, tokens["nlp"].teams) == ("team-admin", ("nlp",))
    assert tokens["ops"].secret.reveal() == "the-token-of-operations"
    assert "the-token-of" not in shown(loaded)


def test_a_command_may_do_without_secrets(example: Path) -> None:
    (example.parent / "edge").unlink()
    loaded = load(example, environ={}, secrets_required=False)
    token = loaded.config.gateways["edge"].token
    assert token is not None
    assert not token.present
    with pytest.raises(SecretMissing, match="edge"):
        token.reveal()
    with pytest.raises(ConfigErrors) as raised:
        load(example, environ={})
    assert [(p.line, p.column) for p in raised.value.problems] == [(5, 16), (9, 37)]


def test_readable_secret_files_are_warned_of(example: Path) -> None:
    (example.parent / "edge").chmod(0o644)
    warnings = load(example, environ=ENVIRON).warnings
    assert [(w.line, w.column) for w in warnings if "mode 0644" in w.message] == [(9, 30)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not text in UTF-8"),
        (b" \n", "is empty"),
        (b"a\0b", "NUL"),
        (b"x" * (1 << 20) + b"y", "larger"),
    ],
)
def test_bad_secret_files(example: Path, content: bytes, message: str) -> None:
    (example.parent / "edge").write_bytes(content)
    with pytest.raises(ConfigErrors, match=message) as raised:
        load(example, environ=ENVIRON)
    assert [(p.line, p.column) for p in raised.value.problems] == [(9, 37)]


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://:hunter2/x@h1,h2",
        "redis+cluster://hunter2?x@h1,h2",
        '"redis+sentinel://:hunter2#x@h1/main"',
    ],
)
def test_half_a_password_in_a_store_url_is_not_shown(url: str) -> None:
    assert "hunter2" not in shown(loads(f"store: {url}\n"))


def test_an_unreadable_store_url_says_nothing_of_it() -> None:
    for url in (
        "redis://:hunter2@/0",
        "postgres://u:hunter2@h",
        "hunter2",
        "sqlite://hunter2/x",
        "redis://h:hunter2",
    ):
        with pytest.raises(ConfigErrors) as raised:
            loads(f"store: '{url}'", environ={})
        assert "hunter2" not in str(raised.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    cut=st.integers(0, 3800),
    insert=st.sampled_from(["", "{", "]", ": ", "'", "\n", " ", "hunter2", "&a ", "- "]),
)
def test_any_mutilation_gives_a_config_or_located_mistakes(example: Path, cut: int, insert: str) -> None:
    text = example.read_text()
    found: ConfigErrors | None = None
    try:
        loads(text[:cut] + insert + text[cut + 1 :], directory=example.parent, environ=ENVIRON)
    except ConfigErrors as errors:
        found = errors
    if found is not None:
        assert found.problems
        assert all(p.line >= 1 and p.column >= 1 for p in found.problems)
        assert not [secret for secret in SECRETS.values() if secret in str(found)]
