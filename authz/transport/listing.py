"""The body of `GET /v1/models`, as the OpenAI API has it.

https://platform.openai.com/docs/api-reference/models/list
"""

import msgspec

from authz.decision import ModelList


def listing_body(listed: ModelList) -> bytes:
    """The list, names only: who owns a model is nobody's business here."""
    models = [
        {"id": model.name, "object": "model", "created": model.created_at // 1000, "owned_by": "authz"}
        for model in listed.models
    ]
    return msgspec.json.encode({"object": "list", "data": models})
