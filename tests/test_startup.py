"""Starting takes no longer than what the config asks for: what else there is, is not imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from authz.telemetry.footprint import footprint

HEAVY = {
    "argon2", "bcrypt", "cel_expr_python", "cryptography", "grpc", "httpx2", "jinja2", "jwt", "opentelemetry",
    "redis", "starlette", "tokenizers",
}  # fmt: skip

BUILD = """
import json, sys
from pathlib import Path

import authz.cli.serve
from authz.app import App, load_config

path = Path(sys.argv[1])
App(path, load_config(path))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

CONFIG = """
store: memory://
authenticators: {some: %s}
routes: [{name: all, match: {paths: [/*]}, authenticate: {any_of: [some]}, authorize: [{%s}]}]
"""

TOKENS = (
    "{type: jwt, issuers: [i], audiences: [a], algorithms: [HS256], "
    "sign_key: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}"
)


@pytest.mark.parametrize(
    ("authenticator", "rule", "needed"),
    [
        ("{type: api_key}", "models: any", set()),
        (
            TOKENS,
            "models: any",
            {"bcrypt", "cryptography", "jwt", "httpx2"},
        ),  # `cryptography` takes bcrypt along
        ("{type: certificate}", "models: any", {"cryptography"}),
        ("{type: api_key}", "when: \"subject.team == 'nlp'\"", {"cel_expr_python"}),
    ],
    ids=["keys", "tokens", "certificates", "conditions"],
)
def test_only_what_a_config_needs_is_imported_and_that_before_the_first_request(
    tmp_path: Path, authenticator: str, rule: str, needed: set[str]
) -> None:
    path = tmp_path / "authz.yaml"
    path.write_text(CONFIG % (authenticator, rule))
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert HEAVY.intersection(json.loads(done.stdout)) == needed


def test_what_the_process_costs_is_told() -> None:
    told = footprint()
    assert 0 < told["ready_after_s"] < 86_400
    assert 5 < told["rss_mib"] < 10_000


def test_where_there_is_no_proc_nothing_is_told(tmp_path: Path) -> None:
    assert footprint(tmp_path) == {}
