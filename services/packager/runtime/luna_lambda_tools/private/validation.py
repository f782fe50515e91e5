"""Is what a caller sent what the lambda wants?"""

from ..public.exceptions import UserException


class BadRequest(UserException):
    """The caller's fault: answers 400."""

    statusCode = 400

    def __init__(self, errorText):
        super().__init__(errorText)
        self.errorText = errorText


def validated(data, schema):
    """`data` as `schema` makes it: a pydantic model, a JSON Schema (dict; needs `jsonschema` among the lambda's
    requirements) or a function that raises ValueError or TypeError. Raises BadRequest when the data does not fit."""
    if isinstance(schema, dict):
        return fitting_json_schema(data, schema)
    try:
        return getattr(schema, "model_validate", schema)(data)
    except (TypeError, ValueError) as trouble:
        raise BadRequest(f"the request does not fit: {trouble}") from trouble


def fitting_json_schema(data, schema):
    import jsonschema

    try:
        jsonschema.validate(data, schema)
    except jsonschema.ValidationError as trouble:
        raise BadRequest(f"the request does not fit: {trouble.message}") from trouble
    return data


def whole_number(name, text, least):
    """`text` as a number of at least `least`. Raises BadRequest."""
    if not text.isascii() or not text.isdigit() or int(text[:10]) < least:
        raise BadRequest(f"query parameter {name} must be a whole number of at least {least}, not {text!r}")
    return int(text[:10])
