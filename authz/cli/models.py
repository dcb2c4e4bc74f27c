"""`authz models`: those of the config file are shown, those of the store can be changed."""

from typing import Annotated

from cyclopts import App, Parameter
from msgspec.structs import replace

from authz.cli import context, output, people, values
from authz.cli.context import Context
from authz.cli.errors import CommandError, UsageError
from authz.cli.options import DEFAULTS, Common
from authz.cli.rows import MODEL_COLUMNS, model_row
from authz.config import Config
from authz.quota import BadQuota, Unit, parse_amount
from authz.store.records import Access, Model, Price

app = App(name="models", help="Models: context, prices, who may use them.")

_explained = people.Explained("authz models list")

_Context = Annotated[
    str | None,
    Parameter(name="--context", help="Tokens that fit in, input and output together: 8192 or 128k."),
]
_MaxOutput = Annotated[
    str | None,
    Parameter(name="--max-output", help="Most tokens that it writes: 2048 or 8k."),
]
_PriceInput = Annotated[
    str | None,
    Parameter(name="--price-input", help="A million input tokens, in the currency: 0.10."),
]
_PriceCached = Annotated[
    str | None,
    Parameter(name="--price-cached-input", help="A million input tokens that came from the cache."),
]
_PriceOutput = Annotated[str | None, Parameter(name="--price-output", help="A million output tokens.")]
_AccessRoles = Annotated[
    list[str] | None,
    Parameter(name="--access-role", help="Who may use it when no list names it: any of these roles."),
]
_AccessTeams = Annotated[
    list[str] | None,
    Parameter(name="--access-team", help="Who may use it when no list names it: any of these teams."),
]


@app.command
def add(
    name: str,
    /,
    *,
    context_tokens: _Context = None,
    max_output: _MaxOutput = None,
    price_input: _PriceInput = None,
    price_cached_input: _PriceCached = None,
    price_output: _PriceOutput = None,
    access_role: _AccessRoles = None,
    access_team: _AccessTeams = None,
    common: Common = DEFAULTS,
) -> None:
    """Add a model to the store. Requests name it; a backend must serve it.

    Parameters
    ----------
    name
        The model's name, as requests carry it.
    """
    at = context.read(common)
    _not_configured(at, values.model(name))
    with context.registry(at) as registry, _explained:
        model = _changed(
            Model(name=name, created_at=at.now),
            context_tokens,
            max_output,
            price_input,
            price_cached_input,
            price_output,
            access_role,
            access_team,
        )
        registry.put_model(model, new=True)
    output.show_record(model_row(model, "store"), as_json=common.json)


@app.command(name="list")
def list_(*, common: Common = DEFAULTS) -> None:
    """List the models: those of the config file, then those of the store."""
    at = context.read(common)
    rows = [model_row(model, "config") for model in configured(at.config)]
    if at.loaded.store.scheme != "memory":
        with context.registry(at) as registry:
            rows += [
                model_row(model, "store") for model in registry.models() if model.name not in at.config.models
            ]
    output.show_rows(
        rows, MODEL_COLUMNS, as_json=common.json, none="No models. authz models add NAME adds one."
    )


@app.command
def show(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Show a model.

    Parameters
    ----------
    name
        The model's name.
    """
    at = context.read(common)
    for model in configured(at.config):
        if model.name == name:
            output.show_record(model_row(model, "config"), as_json=common.json)
            return
    with context.registry(at) as registry, _explained:
        model = people.one(registry.models(), name, "model")
    output.show_record(model_row(model, "store"), as_json=common.json)


@app.command
def update(
    name: str,
    /,
    *,
    context_tokens: _Context = None,
    max_output: _MaxOutput = None,
    price_input: _PriceInput = None,
    price_cached_input: _PriceCached = None,
    price_output: _PriceOutput = None,
    access_role: _AccessRoles = None,
    access_team: _AccessTeams = None,
    open_access: bool = False,
    common: Common = DEFAULTS,
) -> None:
    """Change a model of the store. What no option names stays.

    Parameters
    ----------
    name
        The model's name.
    open_access
        Let everybody use it.
    """
    people.at_most_one(
        open_access=open_access, access_role=access_role is not None or access_team is not None
    )
    at = context.read(common)
    _not_configured(at, name)
    with context.registry(at) as registry, _explained:
        before = people.one(registry.models(), name, "model")
        if open_access:
            before = replace(before, access=Access())
        model = _changed(
            before,
            context_tokens,
            max_output,
            price_input,
            price_cached_input,
            price_output,
            access_role,
            access_team,
        )
        registry.put_model(model)
    output.show_record(model_row(model, "store"), as_json=common.json)


@app.command
def remove(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Remove a model from the store. Requests for it are refused from then on.

    Parameters
    ----------
    name
        The model's name.
    """
    at = context.read(common)
    _not_configured(at, name)
    with context.registry(at) as registry, _explained:
        registry.remove_model(name)
    output.show_record({"removed": name}, as_json=common.json)


def configured(config: Config) -> list[Model]:
    """The models of the config file as records."""
    return [
        Model(
            name=name,
            context=entry.context,
            max_output=entry.max_output,
            price=Price(
                input=entry.price.input, cached_input=entry.price.cached_input, output=entry.price.output
            ),
            access=Access(
                roles=frozenset(entry.access.roles or ()) if entry.access else frozenset(),
                teams=frozenset(entry.access.teams or ()) if entry.access else frozenset(),
            ),
        )
        for name, entry in config.models.items()
    ]


def _not_configured(at: Context, name: str) -> None:
    if name in at.config.models:
        raise CommandError(
            f"the model {name!r} is in the config file, and what is there counts.",
            hint=f"Change it in {at.path}.",
        )


def _changed(
    model: Model,
    context_tokens: str | None,
    max_output: str | None,
    price_input: str | None,
    price_cached_input: str | None,
    price_output: str | None,
    access_role: list[str] | None,
    access_team: list[str] | None,
) -> Model:
    price, access = model.price, model.access
    changed = replace(
        model,
        context=_tokens(context_tokens, model.context),
        max_output=_tokens(max_output, model.max_output),
        price=Price(
            input=_price(price_input, price.input) or 0,
            cached_input=_price(price_cached_input, price.cached_input),
            output=_price(price_output, price.output) or 0,
        ),
        access=Access(
            roles=access.roles if access_role is None else values.names(access_role, "access-role"),
            teams=access.teams if access_team is None else values.names(access_team, "access-team"),
        ),
    )
    if (
        changed.context is not None
        and changed.max_output is not None
        and changed.max_output > changed.context
    ):
        raise UsageError(f"--max-output is more than the context of {changed.context} tokens.")
    return changed


def _tokens(text: str | None, before: int | None) -> int | None:
    if text is None:
        return before
    tokens = values.amount(text, Unit.TOKENS)
    if tokens < 1:
        raise UsageError("a number of tokens is at least 1.")
    return tokens


def _price(text: str | None, before: int | None) -> int | None:
    if text is None:
        return before
    try:
        return parse_amount(text, Unit.COST)
    except BadQuota:
        raise UsageError(f"{text!r} is not a price; write for example 0.40.") from None
