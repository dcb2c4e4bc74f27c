"""`authz config` and `authz render`."""

import json
from pathlib import Path

import pytest

from authz.gateway.render import RENDERERS
from tests.cli.conftest import Authz


def test_a_valid_file(authz: Authz, config: Path) -> None:
    ran = authz("config", "validate")
    assert ran.code == 0
    assert ran.out.startswith(f"{config} is valid (digest ")


def test_every_mistake_with_its_place(authz: Authz, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("stoer: memory://\nlimits:\n  a: {unit: requests, quota: many, window: 1m}\n")
    ran = authz("config", "validate", str(file))
    assert ran.code == 1
    assert f"{file}:1:1: " in ran.out
    assert "`store`" in ran.out
    assert f"{file}:3:30: " in ran.out
    assert f"{file} has 2 mistakes" in ran.err
    told = authz("config", "validate", str(file), "--json")
    assert told.code == 1
    problems = json.loads(told.out)["problems"]
    assert [(problem["line"], problem["column"]) for problem in problems] == [(1, 1), (3, 30)]
    assert problems[0]["suggestion"] == "store"


def test_a_condition_that_does_not_compile_is_a_mistake(authz: Authz, config: Path) -> None:
    config.write_text(config.read_text().replace("{models: allowed}", '{when: "1 +"}'))
    ran = authz("config", "validate")
    assert ran.code == 1
    assert f"{config}:13:28: " in ran.out


@pytest.mark.parametrize(
    ("url", "told"),
    [
        pytest.param("redis://127.0.0.1:6379/0", "", id="one"),
        pytest.param("redis+cluster://a,b:7000", "", id="cluster"),
        pytest.param("redis+sentinel://a,b", "name", id="sentinels-without-a-name"),
        pytest.param("redis://127.0.0.1:6379/0?budget=never", "budget", id="budget"),
    ],
)
def test_a_redis_url_is_read_to_its_end(url: str, told: str, authz: Authz, tmp_path: Path) -> None:
    file = tmp_path / "redis.yaml"
    file.write_text(f"store: {url}\n")
    ran = authz("config", "validate", str(file))
    assert ran.code == (1 if told else 0)
    assert told in ran.out


def test_secrets_can_be_left_out(authz: Authz, config: Path) -> None:
    config.write_text(config.read_text() + "gateways: {edge: {kind: envoy, token: {file: missing}}}\n")
    assert authz("config", "validate").code == 1
    assert authz("config", "validate", "--without-secrets").code == 0


def test_a_missing_file(authz: Authz) -> None:
    ran = authz("config", "validate", "/nonexistent/authz.yaml")
    assert ran.code == 1
    assert "No such file" in ran.out


def test_the_schema_takes_what_every_command_takes(authz: Authz) -> None:
    assert authz("config", "schema", "--json").out == authz("config", "schema").out


def test_the_schema_is_json_schema(authz: Authz) -> None:
    schema = authz("config", "schema").json
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "routes" in schema["properties"]


GATEWAYS = """
gateways:
  edge: {{kind: {kind}, token: {{file: edge.token}}, listen: {{http: 127.0.0.1:8081}}{more}}}
"""

MORE = {"caddy": ", log: 127.0.0.1:9004"}


@pytest.fixture(params=sorted(RENDERERS))
def kind(request: pytest.FixtureRequest, config: Path) -> str:
    """A config with a gateway of each kind."""
    name: str = request.param
    (config.parent / "edge.token").write_text("a-token-that-must-not-be-shown")
    config.write_text(config.read_text() + GATEWAYS.format(kind=name, more=MORE.get(name, "")))
    return name


def test_render_prints_the_main_file(authz: Authz, kind: str) -> None:
    ran = authz("render", kind)
    assert ran.code == 0, ran.err
    assert "must-not-be-shown" not in ran.out
    assert "127.0.0.1" in ran.out


def test_render_writes_every_file(authz: Authz, kind: str, tmp_path: Path) -> None:
    written = authz("render", kind, "--output", str(tmp_path / "out"), "--json").json
    assert {Path(name).relative_to(tmp_path / "out").as_posix() for name in written} >= set(
        RENDERERS[kind].files
    )
    everything = "".join(Path(name).read_text() for name in written)
    assert "8081" in everything
    assert "127.0.0.1:8000" in everything or "8000" in everything


def test_render_of_each_part(authz: Authz, kind: str) -> None:
    for part in RENDERERS[kind].parts:
        ran = authz("render", kind, "--part", part)
        assert ran.code == 0, (part, ran.err)
        assert ran.out
    wrong = authz("render", kind, "--part", "nope")
    assert wrong.code == 2
    assert next(iter(RENDERERS[kind].parts)) in wrong.err


def test_render_without_an_entry_says_what_is_missing(authz: Authz) -> None:
    ran = authz("render", "envoy")
    assert ran.code == 0
    assert "no gateway of kind envoy" in ran.err


@pytest.mark.parametrize(
    ("gateways", "arguments", "code", "message"),
    [
        ("a: {kind: envoy}\n  b: {kind: envoy}", [], 1, "choose a or b"),
        ("a: {kind: envoy}\n  b: {kind: envoy}", ["--gateway", "b"], 0, ""),
        ("a: {kind: envoy}", ["--gateway", "c"], 1, "there is no gateway 'c'"),
        ("a: {kind: caddy}", ["--gateway", "a"], 1, "of kind caddy, not envoy"),
        ("a: {kind: envoy, token: long-enough-to-be-a-token-1}", [], 1, "put it into a file"),
        ("a: {kind: envoy}", ["--version", "0.1"], 1, "use Envoy 1.40 or later"),
    ],
)
def test_render_needs_to_know_which(
    authz: Authz, config: Path, gateways: str, arguments: list[str], code: int, message: str
) -> None:
    config.write_text(config.read_text() + f"gateways:\n  {gateways}\n")
    ran = authz("render", "envoy", *arguments)
    assert ran.code == code, ran.err
    assert message in ran.err
    assert "long-enough" not in ran.err
