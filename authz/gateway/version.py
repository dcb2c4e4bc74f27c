"""Versions of gateways, as people write them."""

import re

from authz.gateway.settings import UnusableSettings


def is_older(version: str | None, oldest: tuple[int, int]) -> bool:
    """Whether a version such as "1.30" or "v1.31.3" is below the oldest that will do. None is new enough."""
    if version is None:
        return False
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if match is None:
        raise UnusableSettings(f"{version!r} is no version: write it like 1.31")
    return (int(match[1]), int(match[2])) < oldest
