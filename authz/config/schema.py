"""The config's JSON Schema (draft 2020-12), for editors and for other programs.

The schema knows the shape; `load` knows more: references, time zones, secrets that exist.
"""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

from authz.config.described import descriptions
from authz.config.model import Config
from authz.config.network import Address

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Generate(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Address) else super().encode_default(dft)

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        made, section = super().model_schema(schema), schema["cls"]
        for name, text in descriptions(section).items():
            if name in section.model_fields:
                key = section.model_fields[name].alias or name
                made["properties"][key].setdefault("description", text)
        return made


def json_schema() -> dict[str, Any]:
    """The schema of `authz.yaml`. Every key carries a description."""
    schema = Config.model_json_schema(by_alias=True, mode="validation", schema_generator=_Generate)
    return {
        "$schema": DIALECT,
        **_as_written(schema),
        "title": "authz.yaml",
        "description": "Configuration of authz.",
    }


def _as_written(schema: Any) -> Any:
    """As the file is written: a key is left out rather than null, and names outside the pattern are wrong."""
    if isinstance(schema, list):
        return [_as_written(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _as_written(part) for key, part in schema.items() if not _noise(key, part)}
    if "patternProperties" in plain:
        plain["additionalProperties"] = False
    choices = [part for part in plain.get("anyOf", ()) if part != {"type": "null"}]
    if len(choices) == 1:
        del plain["anyOf"]
        return {**choices[0], **plain}
    return {**plain, "anyOf": choices} if choices else plain


def _noise(key: str, part: Any) -> bool:
    """Generated titles, and defaults that say no more than that the key may be left out."""
    return (key == "title" and isinstance(part, str)) or (
        key == "default" and (not part or isinstance(part, dict))
    )
