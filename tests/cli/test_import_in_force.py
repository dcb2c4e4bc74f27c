"""An old key is presented to the running service: it works, within its limits, and stands nowhere in the clear."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.service import AuthzService

OF_LLMGATEWAY = "Zk3v9QmT5rWb8yLp2nXc7dHs4gJf6uAe"
INACTIVE = "aQ1sW2dE3fR4gT5hY6jU7kI8lO9pZ0xC"
OF_LITELLM = "sk-qC5b02PjnQVdq3FPYY37wQ"

CONFIG = """
authenticators:
  keys: {type: api_key}
models:
  llama3: {context: 8192, max_output: 2048}
routes:
  - name: models
    match: {methods: [GET], paths: [/v1/models]}
    authenticate: {any_of: [keys]}
    authorize: [{models: allowed}]
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthzService]:
    with AuthzService(tmp_path_factory.mktemp("service"), CONFIG) as service:
        yield service


def ask(service: AuthzService, key: str) -> RawResponse:
    return exchange(service.http, request_bytes("GET", "/v1/models", [("Authorization", f"Bearer {key}")]))


def ask_until(service: AuthzService, key: str, status: int) -> RawResponse:
    """The service notices a change within a second; on a busy machine later."""
    deadline = time.monotonic() + 20
    while (answer := ask(service, key)).status != status:
        assert time.monotonic() < deadline, (answer.status, answer.body)
        time.sleep(0.05)
    return answer


def test_old_keys_work_and_are_nowhere_in_the_clear(service: AuthzService, tmp_path: Path) -> None:
    for key in (OF_LLMGATEWAY, OF_LITELLM):
        assert ask(service, key).status == 401

    apikeys = tmp_path / "apikeys.json"
    entries = [
        {"user": "alice", "active": True, "key": OF_LLMGATEWAY, "name": "laptop"},
        {"user": "alice", "active": False, "key": INACTIVE, "name": "old"},
    ]
    apikeys.write_text("\n".join(map(json.dumps, entries)))
    told = service.run("import", "llmgateway", str(apikeys))
    assert told["counts"]["new"] == 3

    row = {
        "token": hashlib.sha256(OF_LITELLM.encode()).hexdigest(),
        "user_id": "bob",
        "models": ["llama3"],
        "rpm_limit": 2,
    }
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [row], "users": [{"user_id": "bob", "models": []}]}))
    assert service.run("import", "litellm", str(keys))["counts"]["new"] == 2

    assert [each["id"] for each in ask_until(service, OF_LLMGATEWAY, 200).json()["data"]] == ["llama3"]
    assert ask_until(service, INACTIVE, 401).json()["error"]["code"] == "revoked_api_key"

    statuses = [ask_until(service, OF_LITELLM, 200).status, *(ask(service, OF_LITELLM).status for _ in "12")]
    assert statuses == [200, 200, 429]

    for file in service.directory.iterdir():
        data = file.read_bytes()
        assert not any(key.encode() in data for key in (OF_LLMGATEWAY, INACTIVE, OF_LITELLM)), file.name
