"""Checks on the plain data: they find their mistakes even where the rest of a section is broken."""

import json
from collections.abc import Iterator
from typing import Any

from authz.config.base import Wrong, nearest, shorten
from authz.config.findings import Finding
from authz.config.limits import dimension, normal
from authz.config.yaml_source import DataPath, Source


def raw_checks(source: Source) -> Iterator[Finding]:
    """Every mistake that needs no more than the data."""
    yield from _empty_values(source.data, ())
    yield from _listed_twice(source.data, (), source)
    yield from _route_names(source)
    yield from _overrides(source)


def _empty_values(value: Any, path: DataPath) -> Iterator[Finding]:
    if value is None:
        yield Finding(path, "this has no value; give it one or remove it", on="key")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _empty_values(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _empty_values(item, (*path, index))


def _listed_twice(value: Any, path: DataPath, source: Source) -> Iterator[Finding]:
    """No list of the config may say the same thing twice."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _listed_twice(item, (*path, key), source)
    if not isinstance(value, list):
        return
    seen: dict[str, int] = {}
    for index, item in enumerate(value):
        yield from _listed_twice(item, (*path, index), source)
        if item is None:
            continue
        first = seen.setdefault(json.dumps(item, sort_keys=True), index)
        if first != index:
            what = f"`{shorten(item)}`" if isinstance(item, str) else "this entry"
            why = (
                "; both would share one counter"
                if path[:1] == ("routes",) and path[2:] == ("limits",)
                else ""
            )
            at = source.value_position((*path, first))
            message = f"{what} is listed twice, first on line {at.line}, column {at.column}{why}"
            yield Finding((*path, index), message)


def _route_names(source: Source) -> Iterator[Finding]:
    first: dict[str, int] = {}
    routes = source.at(("routes",))
    for index, route in enumerate(routes if isinstance(routes, list) else []):
        name = route.get("name") if isinstance(route, dict) else None
        if isinstance(name, str) and first.setdefault(name, index) != index:
            at = source.value_position(("routes", first[name], "name"))
            message = f"another route is called `{shorten(name)}`, on line {at.line}, column {at.column}"
            yield Finding(("routes", index, "name"), message)


def _overrides(source: Source) -> Iterator[Finding]:
    """An override names partitions of its limit, each once."""
    limits = source.at(("limits",))
    for name, limit in limits.items() if isinstance(limits, dict) else ():
        overrides = limit.get("overrides") if isinstance(limit, dict) else None
        if not isinstance(overrides, list):
            continue
        partition = _partition(limit.get("partition_by", []))
        seen: dict[str, int] = {}
        for index, override in enumerate(overrides):
            if not isinstance(override, dict):
                continue
            path: DataPath = ("limits", name, "overrides", index)
            whom = {normal(key): value for key, value in override.items() if key != "quota"}
            for key in override:
                if partition is not None and key != "quota" and normal(key) not in partition:
                    yield _not_a_partition(path, key, partition)
            first = seen.setdefault(json.dumps(whom, sort_keys=True), index)
            if whom and first != index and override != overrides[first]:
                at = source.value_position((*path[:-1], first))
                yield Finding(
                    path,
                    f"another override, on line {at.line}, column {at.column}, is for the same partition",
                )


def _partition(value: Any) -> list[str] | None:
    """The limit's partition keys; None where they are wrong themselves."""
    if value == "none":
        return []
    if not isinstance(value, list):
        return None
    try:
        return [dimension(item) for item in value]
    except Wrong:
        return None


def _not_a_partition(path: DataPath, key: str, partition: list[str]) -> Finding:
    by = f"it counts by {', '.join(partition)}" if partition else "it has one counter for all"
    message = f"`{shorten(key)}` is not in this limit's `partition_by`: {by}"
    return Finding((*path, key), message, on="key", suggestion=nearest(key, [*partition, "quota"]))
