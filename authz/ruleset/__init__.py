"""From the configuration to the rules that `decide` goes by."""

from authz.ruleset.authenticators import Authenticators
from authz.ruleset.policies import policy_of
from authz.ruleset.rules import build_rules

__all__ = ["Authenticators", "build_rules", "policy_of"]
