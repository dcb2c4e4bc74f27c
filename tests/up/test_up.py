"""`authz up` with everything real: the service, Envoy, the demo model."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from authz.gateway.first_config import Wanted, keep
from tests.support.ports import free_port
from tests.up.running import AUTHZ, RunningUp, alive, eventually, kill, listening

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
Launch = Callable[..., RunningUp]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts `authz up` in the test's directory; stops all of them at the end."""
    started: list[RunningUp] = []

    def up(*arguments: str, port: int | None = None) -> RunningUp:
        started.append(RunningUp(tmp_path / "run", *arguments, port=port))
        return started[-1]

    yield up
    for running in started:
        running.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningUp]:
    """One that tests only look at."""
    running = RunningUp(tmp_path_factory.mktemp("shared") / "run", "--demo")
    try:
        yield running.ready()
    finally:
        running.stop()


def test_it_prints_exactly_four_lines(shared: RunningUp) -> None:
    assert [line.split(": ")[0] for line in shared.lines] == ["gateway", "admin", "key", "config"]
    assert shared.told["gateway"] == f"http://127.0.0.1:{shared.port}"
    assert shared.told["key"].startswith("sk-az-")
    assert shared.told["config"] == str(shared.directory / "authz.yaml")
    assert shared.errors == ""
    assert set(shared.children()) == {"model", "serve", "envoy"}


def test_nobody_gets_in_without_a_key(shared: RunningUp) -> None:
    answer = shared.get("/v1/chat/completions", body=CHAT)
    assert answer.status == 401
    assert answer.json["error"]["code"] == "missing_credentials"


def test_the_key_lists_the_models_and_calls_one(shared: RunningUp) -> None:
    key = shared.told["key"]
    assert [model["id"] for model in shared.get("/v1/models", key=key).json["data"]] == ["demo"]
    answer = shared.get("/v1/chat/completions", key=key, body=CHAT)
    assert answer.status == 200, answer
    assert answer.json["model"] == "demo"
    assert answer.headers["x-ratelimit-limit-requests"] == "6000"


def test_another_model_is_refused(shared: RunningUp) -> None:
    answer = shared.get("/v1/chat/completions", key=shared.told["key"], body={**CHAT, "model": "other"})
    assert (answer.status, answer.json["error"]["code"]) == (403, "model_not_allowed")


def test_what_it_keeps_is_for_its_owner_alone(shared: RunningUp) -> None:
    assert shared.directory.stat().st_mode & 0o077 == 0
    assert (shared.directory / "gateway.token").stat().st_mode & 0o077 == 0
    token = (shared.directory / "gateway.token").read_text().strip()
    key = shared.told["key"]
    for file in shared.directory.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert key.encode() not in content, file
            assert token.encode() not in content or file.name == "gateway.token", file


def test_envoys_administration_is_on_no_port(shared: RunningUp) -> None:
    """A page in a browser on this machine could send it commands there, and so could any other user."""
    envoy = shared.children()["envoy"]
    assert listening(envoy) == {shared.port}
    admin = shared.directory / "envoy-admin.sock"
    assert stat.S_ISSOCK(admin.stat().st_mode)
    assert admin.stat().st_mode & 0o077 == 0


def test_a_path_too_long_for_a_socket_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TemporaryDirectory() as short:
        monkeypatch.setenv("TMPDIR", short)
        running = RunningUp(tmp_path / ("d" * 100) / "run", "--demo")
        try:
            running.ready()
            (admin,) = Path(short).glob("authz-*/envoy-admin.sock")
            assert admin.parent.stat().st_mode & 0o077 == 0
            assert running.get("/v1/models", key=running.told["key"]).status == 200
        finally:
            running.stop()
        assert not list(Path(short).iterdir())


def test_a_command_beside_it_is_in_force_within_a_second(shared: RunningUp) -> None:
    config = shared.told["config"]
    create = [AUTHZ, "keys", "create", "--user", "eve", "--config", config]
    lines = subprocess.run(create, capture_output=True, text=True, check=True).stdout.splitlines()
    made = dict(line.split("\t", 1) for line in lines)
    eventually(lambda: shared.get("/v1/models", key=made["key"]).status == 200, 1.5 * shared.slowness)
    subprocess.run([AUTHZ, "keys", "revoke", made["id"], "--config", config], capture_output=True, check=True)
    eventually(lambda: shared.get("/v1/models", key=made["key"]).status == 401, 1.5 * shared.slowness)


def test_a_second_one_in_the_same_directory_is_refused(shared: RunningUp) -> None:
    command = [AUTHZ, "up", "--demo", "--dir", str(shared.directory)]
    second = subprocess.run(command, capture_output=True, text=True)
    assert (second.returncode, second.stdout) == (1, "")
    assert f"process {shared.process.pid}" in second.stderr
    assert "--dir" in second.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_everything_within_two_seconds(launch: Launch, number: signal.Signals) -> None:
    running = launch("--demo").ready()
    children = running.children()
    begun = time.monotonic()
    running.process.send_signal(number)
    assert running.process.wait(60) == 0
    assert time.monotonic() - begun < 2 * running.slowness
    assert not [name for name, pid in children.items() if alive(pid)]


def test_a_child_that_hangs_does_not_hold_it_up_and_a_second_signal_even_less(launch: Launch) -> None:
    running = launch("--demo").ready()
    children = running.children()
    for pid in children.values():
        kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 128 + signal.SIGINT
    assert time.monotonic() - begun < running.slowness
    eventually(lambda: not any(map(alive, children.values())), 2 * running.slowness)


def test_hanging_children_are_killed_within_two_seconds(launch: Launch) -> None:
    running = launch("--demo").ready()
    children = running.children()
    for pid in children.values():
        kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) == 0
    assert time.monotonic() - begun < 2 * running.slowness
    assert not any(map(alive, children.values()))


def test_kill_9_leaves_no_orphan_and_the_next_one_starts(launch: Launch) -> None:
    running = launch("--demo").ready()
    children, old = running.children(), running.told["key"]
    running.process.kill()
    running.process.wait()
    eventually(lambda: not any(map(alive, children.values())), 2 * running.slowness)
    again = launch("--demo").ready()
    assert again.get("/v1/models", key=again.told["key"]).status == 200
    answer = again.get("/v1/models", key=old)
    assert (answer.status, answer.json["error"]["code"]) == (401, "revoked_api_key")


def test_kill_9_while_it_starts_leaves_no_orphan(launch: Launch) -> None:
    running = launch("--demo")
    seen: dict[str, int] = {}

    def two_children() -> bool:
        seen.update(running.children())
        assert running.process.poll() is None, running.errors
        return len(seen) >= 2

    eventually(two_children, 30)
    running.process.kill()
    running.process.wait()
    eventually(lambda: not any(map(alive, seen.values())), 20)


def test_the_service_is_started_again_and_envoy_says_503_meanwhile(launch: Launch) -> None:
    running = launch("--demo").ready()
    key, pid = running.told["key"], running.children()["serve"]
    kill(pid)
    answers = []

    def works() -> bool:
        answers.append(running.get("/v1/chat/completions", key=key, body=CHAT))
        return answers[-1].status == 200 and running.children().get("serve", pid) != pid

    eventually(works, 60)
    meanwhile = [answer for answer in answers if answer.status != 200]
    assert {answer.status for answer in meanwhile} <= {503}
    assert {answer.json["error"]["code"] for answer in meanwhile} <= {"authz_unavailable"}
    assert meanwhile
    assert "serve was killed by SIGKILL" in running.errors
    assert "Starting it again in 0.1 s" in running.errors
    assert len(running.lines) == 4


@pytest.mark.parametrize("name", ["envoy", "model"])
def test_any_other_child_is_started_again(launch: Launch, name: str) -> None:
    running = launch("--demo").ready()
    key, pid = running.told["key"], running.children()[name]
    kill(pid)

    def works() -> bool:
        with suppress(OSError):
            return running.get("/v1/chat/completions", key=key, body=CHAT).status == 200
        return False

    eventually(lambda: running.children().get(name, pid) != pid and works(), 60)
    assert f"{name} was killed by SIGKILL" in running.errors


def test_a_port_that_is_taken_is_named_with_its_holder_and_the_way_out(launch: Launch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        running = launch("--demo", port=port)
        assert running.process.wait(60) == 1
    assert f"port {port} is taken by" in running.errors
    assert f"(process {os.getpid()})" in running.errors
    assert "--port" in running.errors
    assert running.lines == []


def test_a_taken_port_of_the_service_is_named_by_its_place_in_the_config(
    launch: Launch, tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        _write_config(tmp_path / "run", port)
        running = launch("--demo")
        assert running.process.wait(60) == 1
    assert f"port {port} is taken by" in running.errors
    assert "change `decisions.http` in" in running.errors


def test_an_upstream_that_is_down_is_said_and_taken_over_when_it_comes(launch: Launch) -> None:
    port = free_port()
    running = launch("--upstream", f"http://127.0.0.1:{port}/v1").ready()
    assert f"the model server at http://127.0.0.1:{port} is not usable yet" in running.errors
    key = running.told["key"]
    assert running.get("/v1/models", key=key).json["data"] == []
    model = subprocess.Popen(
        [sys.executable, "-m", "authz.demo.model_server", "--port", str(port), "--model", "late"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: running.get("/v1/models", key=key).json["data"] != [], 60)
        answer = running.get("/v1/chat/completions", key=key, body={**CHAT, "model": "late"})
        assert answer.status == 200
        eventually(lambda: "answers now; its models: late" in running.errors, 60)
    finally:
        model.terminate()
        model.wait(10)
    eventually(lambda: "does not accept connections any more" in running.errors, 60)
    assert running.process.poll() is None


def test_what_lies_where_it_is_started_is_not_imported(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('this is not the json that was meant')")
    monkeypatch.chdir(tmp_path)
    assert launch("--demo").ready().told["gateway"]


def test_a_child_that_cannot_start_ends_it_with_the_reason(launch: Launch, tmp_path: Path) -> None:
    _write_config(tmp_path / "run", free_port())
    config = tmp_path / "run" / "authz.yaml"
    (tmp_path / "run" / "authz.db").write_text("not a database " * 100)
    running = launch("--demo")
    assert running.process.wait(60) == 1
    assert "authz.db" in running.errors
    assert "Traceback" not in running.errors
    assert running.lines == []
    assert config.exists()


def test_a_config_with_mistakes_ends_it_with_their_places(launch: Launch, tmp_path: Path) -> None:
    _write_config(tmp_path / "run", free_port())
    config = tmp_path / "run" / "authz.yaml"
    config.write_text("colour: red\n" + config.read_text())
    running = launch("--demo")
    assert running.process.wait(60) == 1
    assert f"{config}:1:1: " in running.errors


def test_a_config_without_the_gateway_is_said_to_lack_it(launch: Launch, tmp_path: Path) -> None:
    _write_config(tmp_path / "run", free_port())
    config = tmp_path / "run" / "authz.yaml"
    config.write_text(config.read_text().replace("  envoy:\n    kind: envoy", "  edge:\n    kind: envoy"))
    running = launch("--demo")
    assert running.process.wait(60) == 1
    assert "has no `gateways.envoy`" in running.errors


def test_changes_to_the_config_are_kept(launch: Launch, tmp_path: Path) -> None:
    _write_config(tmp_path / "run", free_port())
    config = tmp_path / "run" / "authz.yaml"
    config.write_text(config.read_text().replace("quota: 6000", "quota: 77") + "# mine\n")
    running = launch("--demo").ready()
    answer = running.get("/v1/models", key=running.told["key"])
    assert answer.headers["x-ratelimit-limit-requests"] == "77"
    assert "# mine" in config.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "in front of which model server?"),
        (["--demo", "--upstream", "http://127.0.0.1:1"], "only one of"),
        (["--upstream", "ftp://x"], "--upstream is the scheme"),
        (["--upstream", "http://u:secret-pass@x"], "--upstream is the scheme"),
        (["--upstream", "http://x/other"], "--upstream is the scheme"),
        (["--demo", "--port", "0"], "is not a port"),
        (["--demo", "--port", "x"], "unable to convert"),
    ],
)
def test_usage_errors(tmp_path: Path, arguments: list[str], message: str) -> None:
    command = [AUTHZ, "up", "--dir", str(tmp_path / "new"), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert message in ran.stderr
    assert "secret-pass" not in ran.stderr


def _write_config(directory: Path, http: int) -> None:
    directory.mkdir()
    ports = {"decisions.http": http, "decisions.grpc": free_port(), "admin.listen": free_port()}
    keep(directory, Wanted(), ports)
