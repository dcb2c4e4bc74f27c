"""The config's keys, read off the models: for suggestions, the documentation test and walks over a config."""

from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from authz.config.model import Config
from authz.config.secret import Secret, SecretRef
from authz.config.store import Store
from authz.config.yaml_source import DataPath, Source


def keys_at(path: DataPath, source: Source) -> tuple[str, ...]:
    """The keys that the mapping at a path may have."""
    annotation: Any = Config
    for depth, part in enumerate(path):
        models = _models(annotation, source.at(path[:depth]))
        if models:
            field = next(
                (f for m in models for name, f in m.model_fields.items() if (f.alias or name) == part), None
            )
            if field is None:
                return ()
            annotation = field.annotation
        else:
            annotation = _item(annotation)
    return tuple(dict.fromkeys(key for model in _models(annotation, source.at(path)) for key in _keys(model)))


def key_paths(annotation: Any = Config, path: str = "") -> Iterator[str]:
    """Every key as people write its place: `gateways.NAME.listen.https`, `routes[].match.paths`."""
    item = _item(annotation)
    if item is not None:
        mapping = get_origin(_plain(annotation)) is not tuple
        yield from key_paths(item, f"{path}.NAME" if mapping else f"{path}[]")
        return
    for model in _models(annotation, None):
        for name, field in model.model_fields.items():
            inner = f"{path}.{field.alias or name}".lstrip(".")
            yield inner
            if not _holds(field.annotation, SecretRef):
                yield from key_paths(field.annotation, inner)


def walk(value: Any, path: DataPath = ()) -> Iterator[tuple[DataPath, Any]]:
    """Every value below a part of a config, with its path in the file."""
    yield path, value
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from walk(getattr(value, name), (*path, field.alias or name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(item, (*path, key))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from walk(item, (*path, index))


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


def _plain(annotation: Any) -> Any:
    """Without `Annotated` and `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, UnionType) and NoneType in get_args(annotation):
            rest = [arg for arg in get_args(annotation) if arg is not NoneType]
            annotation = rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007  (made at run time)
        else:
            return annotation


def _item(annotation: Any) -> Any:
    """What a list or a mapping of names holds; None for anything else."""
    plain = _plain(annotation)
    if get_origin(plain) is tuple:
        return get_args(plain)[0]
    return get_args(plain)[1] if get_origin(plain) is Mapping else None


def _models(annotation: Any, data: Any) -> list[type[BaseModel]]:
    """The section classes that an annotation stands for; `type` in the data picks one of several."""
    plain = _plain(annotation)
    if plain in (Secret, Store):
        return [SecretRef]
    if isinstance(plain, type) and issubclass(plain, BaseModel):
        return [plain]
    if get_origin(plain) not in (Union, UnionType):
        return []
    models = [model for arg in get_args(plain) for model in _models(arg, data)]
    named = data.get("type") if isinstance(data, dict) else None
    return [m for m in models if named in get_args(m.model_fields["type"].annotation)] or models


def _holds(annotation: Any, model: type[BaseModel]) -> bool:
    return model in _models(annotation, None)
