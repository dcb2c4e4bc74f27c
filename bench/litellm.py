"""LiteLLM's proxy with one key and an answer that it makes up itself: a whole proxy, not a decision alone."""

import json
import urllib.request
from contextlib import ExitStack

from bench.load import h2load
from bench.machine import SERVER_CORE, pin
from bench.ours import BODY, CHAT
from bench.peers import Peer, program
from bench.rounds import Contestant
from bench.section import Context
from tests.support.ports import free_port
from tests.support.processes import Process

LITELLM = "LiteLLM proxy"
CALLS = 400
_KEY = "sk-bench-0123456789"
_CONFIG = {
    "model_list": [
        {
            "model_name": "llama3",
            "litellm_params": {"model": "openai/llama3", "api_key": "none", "mock_response": "hi"},
        }
    ],
    "general_settings": {"master_key": _KEY},
}
_BODY = json.dumps({**json.loads(BODY), "stream": False}).encode()
_HEADERS = {"authorization": f"Bearer {_KEY}", "content-type": "application/json"}


def litellm(stack: ExitStack, context: Context) -> Contestant | None:
    """It as a contestant; None where it is not installed."""
    installed = program(context.peers, Peer.LITELLM)
    if not installed.exists():
        return None
    port = free_port()
    config = context.scratch / "litellm.json"  # JSON is YAML
    config.write_text(json.dumps(_CONFIG))
    argv = [
        str(installed),
        "--config",
        str(config),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--num_workers",
        "1",
    ]
    env = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    process = Process(argv, log=context.scratch / "litellm.log", env=env, cwd=context.scratch)
    stack.callback(process.stop)
    url = f"http://127.0.0.1:{port}{CHAT}"

    def answers() -> bool:
        request = urllib.request.Request(url, data=_BODY, headers=_HEADERS)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    process.wait_until(answers, seconds=180)
    pin(process.pid, SERVER_CORE)
    run = h2load(url, _BODY, _HEADERS, context.scratch / "litellm.bin", process.pid, calls=CALLS, http1=True)
    return Contestant(LITELLM, run)
