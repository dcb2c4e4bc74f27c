"""Words that stand in a configuration as they are, without quoting."""

import re

from authz.gateway.settings import RenderSettings, UnusableSettings

_PLAIN = re.compile(r"[A-Za-z0-9_./:@*-]+", re.ASCII)


def require_plain(settings: RenderSettings) -> None:
    """Raise UnusableSettings for a word that would end a directive, or begin a variable or a placeholder."""
    words = {
        "server_name": settings.server_name,
        "tls certificate": settings.tls.certificate,
        "tls key": settings.tls.key,
        "tls client_ca": settings.tls.client_ca,
        "token": settings.token.name if settings.token is not None else None,
    }
    if settings.authz_tls is not None:
        words |= {
            "mtls cert": settings.authz_tls.certificate,
            "mtls key": settings.authz_tls.key,
            "decisions tls server_ca": settings.authz_tls.authority,
            "decisions tls server_name": settings.authz_tls.server_name,
        }
    for upstream in settings.upstreams:
        words[f"backend {upstream.name!r}"] = upstream.name
        words.update((f"model {model!r} of {upstream.name!r}", model) for model in upstream.models)
    words.update((f"claim header {name!r}", name) for name in settings.claim_headers)
    words.update((f"request id header {name!r}", name) for name in settings.request_id_headers)
    for what, word in words.items():
        if word is not None and not _PLAIN.fullmatch(word):
            raise UnusableSettings(f"{what}: {word!r} holds a character that this gateway's file cannot take")
