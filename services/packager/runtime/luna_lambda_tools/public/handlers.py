"""Routes of a lambda's own."""

from sanic.response import HTTPResponse

from ..private.answers import LAMBDA_EXCEPTION, json_answer, problem
from ..private.validation import BadRequest, validated, whole_number

METHODS = ("get", "post", "put", "patch", "delete")


class LambdaUserHandler:
    """Subclass it in lambda_main.py: give `route` and async methods named get, post, put, patch, delete.

    One instance is made for each request. `route` may have parameters, as in `/things/<id:int>`, which the method
    receives by name. A method returns a dict (answered as JSON) or what `success`, `error`, `sendResponse` return,
    or nothing after `stream`. With `streamBody = True` the body is not read ahead, whatever its size;
    read it with `async for chunk in self.request.stream`.
    """

    route: str
    streamBody = False

    def __init__(self, request):
        self.request = request

    @property
    def app(self):
        """The Sanic application."""
        return self.request.app

    @property
    def config(self):
        """Its `userConfig` is the dict that was given with the lambda's parameters."""
        return self.request.config

    @classmethod
    def getAllowedMethods(cls):
        """The HTTP methods that the class defines, in capitals."""
        return [name.upper() for name in METHODS if hasattr(cls, name)]

    def success(self, body=None, statusCode=200):
        """An answer with `body` as JSON; without one the answer has no body."""
        return HTTPResponse(None, statusCode) if body is None else json_answer(body, statusCode)

    def error(self, statusCode, errorText):
        """An answer of application/problem+json with `errorText` as its detail."""
        return problem(self.request, statusCode, errorText, LAMBDA_EXCEPTION)

    def sendResponse(self, body, statusCode=200, contentType="application/json", headers=None):
        """An answer with `body` (bytes or str) just as it is."""
        return HTTPResponse(body, statusCode, headers, contentType)

    async def stream(self, chunks, statusCode=200, contentType="application/octet-stream", headers=None):
        """Answers with a body that is sent while it is made: `chunks` is an iterable, async or not, of bytes or str."""
        await self.request.streamResponse(chunks, statusCode, contentType, headers)

    def validateJson(self, data, schema):
        """`data`, checked: `schema` is a pydantic model, a JSON Schema (needs `jsonschema` among the requirements)
        or a function that raises ValueError. Answers 400 when it does not fit."""
        return validated(data, schema)

    def loadDataFromJson(self, schema=None):
        """The body as JSON, checked by `schema` as in validateJson. Answers 400 when it is empty or unreadable."""
        data = self.request.json
        if data is None:
            raise BadRequest("the request needs a JSON body")
        return data if schema is None else validated(data, schema)

    def loadDataFromQuery(self, schema=None):
        """The query as a dict, checked by `schema` as in validateJson: a str, or a list of them for a repeated name."""
        data = {name: values[0] if len(values) == 1 else list(values) for name, values in self.request.args.items()}
        return data if schema is None else validated(data, schema)

    def getQueryParam(self, name, default=None, convert=str, required=False):
        """One query parameter through `convert`, else `default`. Answers 400 if it is required or cannot be converted."""
        text = self.request.args.get(name)
        if text is None:
            if required:
                raise BadRequest(f"query parameter {name} is required")
            return default
        try:
            return convert(text)
        except (TypeError, ValueError) as trouble:
            raise BadRequest(f"query parameter {name} is not acceptable: {text!r}") from trouble

    def getPagination(self, page=1, pageSize=10):
        """(page, pageSize) from the query parameters `page` and `page_size`, both at least 1. Answers 400 otherwise."""
        args = self.request.args
        return (
            whole_number("page", args.get("page", str(page)), 1),
            whole_number("page_size", args.get("page_size", str(pageSize)), 1),
        )

    def getAccountIdFromHeader(self):
        """The Luna-Account-Id header as str, None if there is none."""
        return self.request.headers.get("Luna-Account-Id")

    def addDataForMonitoring(self, tags=None, fields=None):
        """Adds to the request's `dataForMonitoring`; both are dicts."""
        self.request.dataForMonitoring.tags.update(tags or {})
        self.request.dataForMonitoring.fields.update(fields or {})
