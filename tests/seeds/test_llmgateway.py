"""AaltoRSE's LLMGateway, moved to Envoy and authz: what it does, what is on its list to do, and its keys taken along."""

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from authz.authenticate.key_format import MintedKey, mint
from authz.store.open import open_view
from authz.store.records import Entry, Source
from tests.acceptance.lab import eventually
from tests.seeds.site import Site, code
from tests.support.any_server import Answer, AnyServer, Received
from tests.support.noon import NOON
from tests.support.raw_http import RawResponse
from tests.support.simulated import Page, SimulatedModel

CHAT = "/v1/chat/completions"
PRICES = {"llama3": (1, 4), "mistral": (2, 6)}  # input and output, per million tokens

# `counted` keeps books of what each request used; the other two show what reached them.
CONFIG = """
timezone: ZONE
authenticators:
  keys: {type: api_key}
models:
  llama3:  {context: 32768, max_output: 4096, price: {input: 1, output: 4}}
  mistral: {context: 32768, max_output: 4096, price: {input: 2, output: 6}}
  phi:     {context: 4096, max_output: 512}
  gemma:   {context: 4096, max_output: 512}
backends:
  counted: {url: "http://127.0.0.1:COUNTED", models: [llama3, mistral], bearer: inference-key-of-the-books}
  phi:     {url: PHI, models: [phi], bearer: inference-key-of-phi}
  gemma:   {url: GEMMA, models: [gemma], bearer: inference-key-of-gemma, header: x-inference-key}
routes:
  - {name: models, match: {methods: [GET], paths: [/v1/models]}, authenticate: {any_of: [keys]}, authorize: [{models: allowed}]}
  - {name: inference, match: {api: [openai]}, authenticate: {any_of: [keys]}, authorize: [{models: allowed}]}
"""


@dataclass(frozen=True)
class Gateway:
    """Envoy, authz and three model servers."""

    site: Site
    counted: SimulatedModel
    phi: AnyServer
    gemma: AnyServer

    def chat(self, key: str | MintedKey, model: str = "llama3", **fields: Any) -> RawResponse:
        body = {"model": model, "messages": [{"role": "user", "content": "How do I cite?"}], "max_tokens": 64}
        shown = key if isinstance(key, str) else key.key
        return self.site.ask("envoy", "POST", CHAT, {"Authorization": f"Bearer {shown}"}, {**body, **fields})

    def models(self, key: str | MintedKey) -> list[str]:
        shown = key if isinstance(key, str) else key.key
        answer = self.site.ask("envoy", "GET", "/v1/models", {"Authorization": f"Bearer {shown}"})
        assert answer.status == 200
        return [each["id"] for each in answer.json()["data"]]

    def entries(self, *keys: MintedKey) -> list[Entry]:
        """What the ledger has of these keys."""
        ledger = open_view(self.site.service.store).ledger
        return [each for key in keys for each in ledger.entries(only={"key": key.id}, limit=1000)]

    def settled(self, count: int, *keys: MintedKey) -> list[Entry]:
        """The ledger once it has so many entries of these keys."""
        eventually(lambda: len(self.entries(*keys)) >= count, seconds=15)
        found = self.entries(*keys)
        assert len(found) == count
        return found


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    scratch = tmp_path_factory.mktemp("llmgateway")

    def answer(_: Received) -> Answer:
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        return Answer(pieces=(json.dumps({"choices": [], "usage": usage}).encode(),))

    with SimulatedModel(scratch / "model") as counted, AnyServer(answer) as phi, AnyServer(answer) as gemma:
        config = CONFIG.replace("ZONE", NOON).replace("COUNTED", str(counted.port))
        config = config.replace("PHI", phi.url).replace("GEMMA", gemma.url)
        with Site(scratch, config, kinds=["envoy"]) as site:
            yield Gateway(site, counted, phi, gemma)


Sums = dict[tuple[str, ...], tuple[int, ...]]
"""Requests, prompt tokens, completion tokens and cost (in 1e-9), by whatever was asked for."""


@dataclass(frozen=True)
class Used:
    """Requests of three keys for two models, streamed and whole; of these models nobody else's."""

    entries: list[Entry]
    pages: list[Page]

    def by(self, *names: str) -> Sums:
        """From the model server's own books; the ledger only says whose each request was."""
        books = {page.reservation: page.usage for page in self.pages}
        found: Sums = {}
        for entry in self.entries:
            usage = books[entry.reservation]
            assert usage is not None
            price = PRICES[entry.facts.model]
            one = (1, usage[0], usage[1], 1000 * (usage[0] * price[0] + usage[1] * price[1]))
            whose = tuple(getattr(entry.facts, name) for name in names)
            found[whose] = tuple(map(sum, zip(found.get(whose, (0, 0, 0, 0)), one, strict=True)))
        return found


def sums(usage: list[dict[str, Any]], *names: str) -> Sums:
    """The same as `authz usage` tells it."""
    amounts = ("requests", "input_tokens", "output_tokens")
    return {
        tuple(row[name] for name in names): (*(row[each] for each in amounts), round(row["cost"] * 10**9))
        for row in usage
    }


@pytest.fixture(scope="module")
def used(gateway: Gateway) -> Used:
    keys = [
        gateway.site.key(user="ann"),
        gateway.site.key(user="ann"),
        gateway.site.key(user="bob", team="nlp"),
    ]
    for key in keys:
        for model in PRICES:
            assert gateway.chat(key, model, simulate={"output": 9}).status == 200
            assert gateway.chat(key, model, simulate={"output": 33}, stream=True).status == 200
    return Used(gateway.settled(len(keys) * len(PRICES) * 2, *keys), gateway.counted.books())


class TestUsage:
    """Prompt and completion tokens by key, user, model, date; sums equal the ledger; the date filter works."""

    def test_each_request_is_what_the_model_server_counted(self, used: Used) -> None:
        assert {entry.note.source for entry in used.entries} == {Source.REPORTED}
        books = {page.reservation: page.usage[:2] for page in used.pages if page.usage is not None}
        told = {each.reservation: (each.note.usage.input, each.note.usage.output) for each in used.entries}
        assert told == books
        # A stream is not counted by its chunks, and what is read counts as well.
        assert {each.note.usage.output for each in used.entries} == {9, 33}
        assert min(each.note.usage.input for each in used.entries) > 0

    @pytest.mark.parametrize("by", [("key", "model"), ("user",), ("team",)], ids=",".join)
    def test_sums(self, gateway: Gateway, used: Used, by: tuple[str, ...]) -> None:
        told: Sums = {}
        for model in PRICES:
            usage = gateway.site.service.run(
                "usage", "--by", ",".join((*by, *(() if "model" in by else ("model",)))), "--model", model
            )
            told |= sums(usage, *by, "model")
        assert told == used.by(*by, "model")

    def test_dates(self, gateway: Gateway, used: Used) -> None:
        today = datetime.datetime.now(ZoneInfo(NOON)).date()
        day = datetime.timedelta(days=1)

        def usage(since: datetime.date, until: datetime.date) -> list[dict[str, Any]]:
            span = ("--since", str(since), "--until", str(until))
            return gateway.site.service.run("usage", "--by", "day,user", "--model", "llama3", *span)  # type: ignore[no-any-return]

        whole = sums(usage(today, today + day), "day", "user")
        of_llama3 = {
            names[:1]: amounts for names, amounts in used.by("user", "model").items() if names[1] == "llama3"
        }
        assert whole == {(str(today), *user): amounts for user, amounts in of_llama3.items()}
        assert usage(today - 7 * day, today) == []
        assert usage(today + day, today + 7 * day) == []


class TestKeysAndModels:
    """A key for some models only; the list shows what is allowed."""

    def test_a_key_for_all(self, gateway: Gateway) -> None:
        key = gateway.site.key()
        assert sorted(gateway.models(key)) == ["gemma", "llama3", "mistral", "phi"]
        assert gateway.chat(key, "gemma").status == 200

    def test_a_key_for_one(self, gateway: Gateway) -> None:
        made = gateway.site.service.run(
            "keys", "create", "--user", "eve", "--name", "thesis", "--model", "phi"
        )
        eventually(lambda: gateway.chat(made["key"], "phi").status == 200)
        assert gateway.models(made["key"]) == ["phi"]
        gateway.gemma.received.clear()
        for model in ("gemma", "no-such-model"):
            assert code(gateway.chat(made["key"], model)) == (403, "model_not_allowed")
        assert not gateway.gemma.received

    def test_an_invalid_key_is_in_no_log(self, gateway: Gateway) -> None:
        for invalid in (mint().key, "sk-not-a-key-of-ours"):
            assert code(gateway.chat(invalid, "phi")) == (401, "invalid_api_key")
            assert invalid not in gateway.site.logs


class TestPricesAndCaps:
    """What models cost, and daily caps that no log table is scanned for."""

    def test_each_model_has_its_price(self, gateway: Gateway, used: Used) -> None:
        for entry in used.entries:
            price, usage = PRICES[entry.facts.model], entry.note.usage
            assert entry.note.cost == 1000 * (usage.input * price[0] + usage.output * price[1])

    def test_a_daily_cap(self, gateway: Gateway) -> None:
        key = gateway.site.key("tokens=300/day")
        statuses: list[int] = []
        while not statuses or statuses[-1] == 200:
            statuses.append(gateway.chat(key, "phi", max_tokens=16).status)
            assert len(statuses) < 60, "the cap was never reached"
            if statuses[-1] == 200:
                gateway.settled(len(statuses), key)
        last = gateway.chat(key, "phi", max_tokens=16)
        assert code(last) == (429, "insufficient_quota")
        assert last.header("x-should-retry") == "false"
        assert f"key {key.id}" in last.json()["error"]["message"]
        used = sum(each.note.usage.input + each.note.usage.output for each in gateway.entries(key))
        assert used == 12 * (len(statuses) - 1) <= 300
        # Another key has a day of its own.
        assert gateway.chat(gateway.site.key("tokens=300/day"), "phi", max_tokens=16).status == 200


class TestSecretSwapAndRouting:
    """The client's key becomes the inference key of the model server that serves the model."""

    def test_each_model_server_gets_its_own_key(self, gateway: Gateway) -> None:
        gateway.phi.received.clear()
        gateway.gemma.received.clear()
        key = gateway.site.key()
        assert gateway.chat(key, "phi").status == gateway.chat(key, "gemma").status == 200
        (phi,), (gemma,) = gateway.phi.received, gateway.gemma.received
        assert phi.header("authorization") == "Bearer inference-key-of-phi"
        assert phi.header("x-inference-key") is None
        assert gemma.header("x-inference-key") == "inference-key-of-gemma"
        assert gemma.header("authorization") is None
        for received, model in ((phi, "phi"), (gemma, "gemma")):
            assert json.loads(received.body)["model"] == model
            assert (received.header("x-authz-user"), received.header("x-authz-key")) == ("alice", key.id)
            assert key.key not in repr(received)


class TestMigration:
    """Its `apikeys`, as `mongoexport` writes them: the keys work on, and only their hashes are kept."""

    def test_an_old_key_still_works(self, gateway: Gateway) -> None:
        old, closed = "PzB2nq8WmC5dTj0uKx7rGa", "W1rJ6bYv9sQe4fLh2mNc8t"
        export = "\n".join(
            json.dumps(
                {
                    "_id": {"$oid": f"65f0{n:020x}"},
                    "user": "grace",
                    "active": active,
                    "key": key,
                    "name": f"key {n}",
                }
            )
            for n, (key, active) in enumerate([(old, True), (closed, False)])
        )
        file = gateway.site.service.directory / "apikeys.json"
        file.write_text(export)
        run = gateway.site.service.run
        assert run("import", "llmgateway", str(file), "--dry-run")["dry_run"] is True
        assert gateway.chat(old, "phi").status == 401
        told = run("import", "llmgateway", str(file))
        assert old not in json.dumps(told)
        file.unlink()
        eventually(lambda: gateway.chat(old, "phi").status == 200)
        assert gateway.phi.received[-1].header("x-authz-user") == "grace"
        assert code(gateway.chat(closed, "phi")) == (401, "revoked_api_key")
        for kept in gateway.site.service.directory.glob("authz.db*"):
            assert old.encode() not in kept.read_bytes(), kept
        assert old not in gateway.site.logs
