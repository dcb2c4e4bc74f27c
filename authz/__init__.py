"""External authorization and rate-limit decisions for LLM inference gateways."""

__version__ = "0.1.0.dev0"
