"""May this caller do this? Every rule of a route must agree; a route without rules refuses."""

from authz.authorize.rules import (
    Asked,
    HasRoles,
    HasScopes,
    Meets,
    ModelsAllowed,
    ModelsAny,
    ModelsListed,
    Rule,
    authorize,
)

__all__ = [
    "Asked",
    "HasRoles",
    "HasScopes",
    "Meets",
    "ModelsAllowed",
    "ModelsAny",
    "ModelsListed",
    "Rule",
    "authorize",
]
