"""What of a config was settled when the service started: a reload says so, and changes the rest."""

from authz.config.load import Loaded
from authz.config.model import Config
from authz.transport.configured import addresses, largest_body, logging_gateways, tls_files


def fixed_at_start(old: Loaded, new: Loaded) -> list[str]:
    """The sections that a reload cannot change: sockets and the store are open already."""
    changed = []
    if addresses(old.config) != addresses(new.config):
        changed.append("decisions")
    before, after = tls_files(old.config), tls_files(new.config)
    if before is not None and after is not None and before.client_ca != after.client_ca:
        changed.append("decisions.tls.client_ca, for the authority that is no longer trusted")
    if old.config.admin.listen != new.config.admin.listen:
        changed.append("admin.listen")
    if str(old.store) != str(new.store):
        changed.append("store")
    if old.config.timezone != new.config.timezone:
        changed.append("timezone, of the days that the ledger sums by")
    if largest_body(old.config) != largest_body(new.config):
        changed.append("gateways.*.max_body")
    if _logs(old.config) != _logs(new.config):
        changed.append("gateways.*.log")
    return changed


def _logs(config: Config) -> set[str]:
    return {each.listen for each in logging_gateways(config)}
