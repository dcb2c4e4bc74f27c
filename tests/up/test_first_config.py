"""The config that `authz up` writes, and what it leaves alone in one that is there."""

import stat
from pathlib import Path

import pytest

from authz.config import load
from authz.gateway.first_config import NotOurs, Wanted, keep
from authz.quota import Unit

PORTS = {"decisions.http": 9100, "decisions.grpc": 9101, "admin.listen": 9102}
WANTED = Wanted(listen="127.0.0.1:8081", upstream="http://10.0.0.5:8000", models=["a", "org/b"])


def test_a_new_file_is_valid_and_says_what_was_asked(tmp_path: Path) -> None:
    config = load(keep(tmp_path, WANTED, PORTS)).config
    assert str(config.decisions.http) == "127.0.0.1:9100"
    assert str(config.decisions.grpc) == "127.0.0.1:9101"
    assert str(config.admin.listen) == "127.0.0.1:9102"
    assert str(config.gateways["envoy"].listen.http) == "127.0.0.1:8081"
    assert config.backends["upstream"].url == "http://10.0.0.5:8000"
    assert list(config.models) == ["a", "org/b"]
    assert config.rate_headers == "always"
    rpm, concurrency = config.limits["key-rpm"], config.limits["key-concurrency"]
    assert (rpm.unit, rpm.quota, str(rpm.window), rpm.partition_by) == (Unit.REQUESTS, 6000, "1m", ("key",))
    assert (concurrency.unit, concurrency.quota) == (Unit.CONCURRENCY, 256)
    assert [route.name for route in config.routes] == ["models", "inference"]


def test_it_loads_without_a_warning(tmp_path: Path) -> None:
    assert load(keep(tmp_path, WANTED, PORTS)).warnings == ()


def test_the_token_is_random_kept_and_for_the_owner_alone(tmp_path: Path) -> None:
    keep(tmp_path / ".", WANTED, PORTS)
    token = tmp_path / "gateway.token"
    first = token.read_text()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(first.strip()) >= 40
    keep(tmp_path, WANTED, PORTS)
    assert token.read_text() == first
    (tmp_path / "other").mkdir()
    keep(tmp_path / "other", WANTED, PORTS)
    assert (tmp_path / "other" / "gateway.token").read_text() != first


def test_a_new_file_is_for_the_owner_alone(tmp_path: Path) -> None:
    assert stat.S_IMODE(keep(tmp_path, WANTED, PORTS).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o644])
def test_a_file_that_is_written_again_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = keep(tmp_path, WANTED, PORTS)
    path.chmod(mode)
    keep(tmp_path, Wanted(models=["c"]), {})
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert "c: {}" in path.read_text()


def test_what_a_start_that_broke_off_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "authz.yaml.new").write_text("half")
    path = keep(tmp_path, WANTED, PORTS)
    assert [each.name for each in sorted(tmp_path.iterdir())] == ["authz.yaml", "gateway.token"]
    assert load(path).config.rate_headers == "always"


def test_a_second_start_that_asks_for_nothing_new_does_not_touch_the_file(tmp_path: Path) -> None:
    path = keep(tmp_path, WANTED, PORTS)
    before = path.stat()
    keep(tmp_path, WANTED, {})
    keep(tmp_path, Wanted(), {})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_operators_part_is_kept_word_for_word(tmp_path: Path) -> None:
    path = keep(tmp_path, WANTED, PORTS)
    mine = (
        path.read_text()
        .replace("  a: {}", "  a: {context: 8k, max_output: 1k} # mine")
        .replace("quota: 6000", "quota: 77")
        + "\n# the end\ntimezone: Europe/Helsinki\n"
    )
    path.write_text(mine)
    keep(tmp_path, Wanted(upstream="http://10.0.0.6:8000", models=["c"]), {})
    expected = mine.replace("10.0.0.5", "10.0.0.6").replace("  org/b: {}", "  c: {}")
    assert path.read_text() == expected
    assert load(path).config.models["a"].context == 8000


def test_what_the_upstream_tells_of_a_context_is_taken_over_where_nothing_is_said(tmp_path: Path) -> None:
    path = keep(tmp_path, WANTED, PORTS)
    path.write_text(path.read_text().replace("  a: {}", "  a: {context: 4k, max_output: 1k}"))
    keep(tmp_path, Wanted(models=["a", "org/b", "c"], contexts={"a": 8192, "org/b": 16384}), {})
    models = load(path).config.models
    assert [models[name].context for name in ("a", "org/b", "c")] == [4000, 16384, None]
    keep(tmp_path, Wanted(models=["c"]), {})  # the others are served no more; one is the operator's
    assert list(load(path).config.models) == ["a", "c"]


@pytest.mark.parametrize("models", [[], ["x"], ["a", "org/b", "c:7b", "d@e+f"]])
def test_models_follow_the_upstream(tmp_path: Path, models: list[str]) -> None:
    path = keep(tmp_path, WANTED, PORTS)
    keep(tmp_path, Wanted(models=models), {})
    assert sorted(load(path).config.models) == sorted(models)


@pytest.mark.parametrize(
    "text", ["store: memory://\n", "gateways: {}\n", "backends:\n", "gateways: {envoy: 3}\n"]
)
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "authz.yaml").write_text(text)
    with pytest.raises(NotOurs, match="--dir"):
        keep(tmp_path, WANTED, PORTS)
    assert (tmp_path / "authz.yaml").read_text() == text
