"""`authz serve` says what is wrong with its rate limits before it serves anything."""

import subprocess
from pathlib import Path

import pytest

from authz.asked import Asked, RateLimitFiles
from authz.cli.errors import Exit
from authz.cli.worker import options_of, read_options
from tests.support.processes import executable


def serve(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    config = directory / "authz.yaml"
    config.write_text("store: memory://\n")
    argv = [executable("authz"), "serve", "--config", str(config), *options]
    return subprocess.run(argv, capture_output=True, text=True, cwd=directory, timeout=60)


def test_compat_is_about_limits(tmp_path: Path) -> None:
    done = serve(tmp_path, "--ratelimit-compat")
    assert done.returncode == Exit.USAGE
    assert "--ratelimit-config" in done.stderr


def test_a_wrong_file_ends_it(tmp_path: Path) -> None:
    limits = tmp_path / "limits"
    limits.mkdir()
    (limits / "a.yaml").write_text("domain: d\ndescriptors: [{key: k, rate_limit: {unit: dya}}]\n")
    done = serve(tmp_path, "--ratelimit-config", "limits")
    assert done.returncode == Exit.FAILED
    assert "limits/a.yaml:2:43: `dya` is no unit" in done.stderr
    assert "limits/a.yaml:2:24: missing key `requests_per_unit`" in done.stderr


@pytest.mark.parametrize(
    "asked",
    [
        Asked(),
        Asked(RateLimitFiles(Path("/etc/limits"))),
        Asked(RateLimitFiles(Path("/etc/limits"), compat=True), "grpcio"),
        Asked(grpc_server="grpcio"),
    ],
    ids=["nothing", "limits", "all", "grpcio"],
)
def test_workers_are_told(asked: Asked) -> None:
    assert read_options(options_of(asked)) == asked
