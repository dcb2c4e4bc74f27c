"""Limits as policies."""

from authz.config.limits import LimitEntry
from authz.limit.policy import Override, Policy, When


def policy_of(name: str, entry: LimitEntry) -> Policy:
    when = entry.when
    return Policy(
        name=name,
        quota=entry.value,
        partition_by=entry.partition_by,
        when=None
        if when is None
        else When(
            models=frozenset(when.models or ()),
            methods=frozenset(when.methods or ()),
            paths=frozenset(when.paths or ()),
            roles=frozenset(when.roles or ()),
            teams=frozenset(when.teams or ()),
            users=frozenset(when.users or ()),
            slots=tuple(
                (f"{kind}:{name}", None if value == "*" else value)
                for kind, wanted in (
                    ("header", when.headers),
                    ("query", when.query),
                    ("cookie", when.cookies),
                )
                for name, value in wanted.items()
            ),
            claims=tuple((name, None if value == "*" else value) for name, value in when.claims.items()),
            networks=tuple(when.ips or ()),
        ),
        overrides=tuple(Override(override.partition, override.quota) for override in entry.overrides),
        shadow=entry.mode == "shadow",
        shadow_amount=entry.shadow.quota if entry.shadow is not None else None,
        on_store_failure=entry.on_store_failure,
        allowance=entry.allowance or 0,
        refusal_status=entry.refusal.status if entry.refusal is not None else None,
        refusal_message=entry.refusal.message if entry.refusal is not None else None,
    )
