"""The bodies that a lambda answers with."""

from http import HTTPStatus
from json import JSONEncoder

from sanic.response import HTTPResponse

LAMBDA_EXCEPTION = 42004

encode = JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class LambdaFault(Exception):
    """The lambda broke a rule of its contract; the text says which, fit to be shown to a caller."""


class QuickAnswer(HTTPResponse):
    """Sanic cleans each header letter by letter, a tenth of a small request's time; most headers have nothing to clean."""

    __slots__ = ()

    @staticmethod
    def _sanitize_header_value(value):
        return value if value.isprintable() else HTTPResponse._sanitize_header_value(value)


def json_answer(value, status=200):
    """`value` as a JSON answer. Raises LambdaFault when JSON cannot hold it."""
    try:
        body = encode(value)
    except (TypeError, ValueError, RecursionError) as trouble:
        raise LambdaFault(f"the lambda's answer cannot be written as JSON: {trouble}") from trouble
    return QuickAnswer(body, status, content_type="application/json")


def problem(request, status, detail, error_code=None, headers=None):
    """An answer of application/problem+json; with an error code it is the lambda's doing, else the server's."""
    content = {
        "title": phrase_of(status) if error_code is None else "Lambda exception",
        "status": status,
        "detail": str(detail),
        "request_id": request.requestId,
    }
    if error_code is not None:
        content["error_code"] = error_code
    return HTTPResponse(encode(content), status, headers, "application/problem+json")


def phrase_of(status):
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
