"""`authz.yaml`: read, checked and watched.

loaded = load(find_config(option))      # raises ConfigErrors with every mistake at once
loaded.config.routes, loaded.store, loaded.warnings, loaded.digest
"""

from authz.config.load import Loaded, find_config, load, loads
from authz.config.model import Config
from authz.config.problem import ConfigErrors, ConfigNotFound, Problem
from authz.config.secret import Secret, SecretMissing
from authz.config.store import Store

__all__ = [
    "Config",
    "ConfigErrors",
    "ConfigNotFound",
    "Loaded",
    "Problem",
    "Secret",
    "SecretMissing",
    "Store",
    "find_config",
    "load",
    "loads",
]
