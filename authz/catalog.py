"""The models that exist: those of the config file and those added at run time."""

from collections.abc import Iterator, Mapping

from authz.store.protocols import Directory
from authz.store.records import Model
from authz.subject import Subject


class Catalog:
    """Config wins over the store where both name a model."""

    __slots__ = ("_configured", "_directory")

    def __init__(self, configured: Mapping[str, Model], directory: Directory) -> None:
        self._configured = dict(configured)
        self._directory = directory

    def get(self, name: str) -> Model | None:
        return self._configured.get(name) or self._directory.models().get(name)

    def __iter__(self) -> Iterator[Model]:
        yield from self._configured.values()
        for name, model in self._directory.models().items():
            if name not in self._configured:
                yield model

    def __bool__(self) -> bool:
        return bool(self._configured) or bool(self._directory.models())


def permits(model: Model, subject: Subject) -> bool:
    """Whether a model's `access` lets in a subject that no list speaks for."""
    access = model.access
    if access.roles and not access.roles & subject.roles:
        return False
    return not access.teams or subject.team in access.teams


def allowed(model: Model, subject: Subject) -> bool:
    """The rule `models: allowed`: the subject's own list, else (API keys only) what `access` permits."""
    if subject.models is not None:
        return model.name in subject.models
    return subject.inherits_models and permits(model, subject)
