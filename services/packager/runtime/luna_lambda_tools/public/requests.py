"""The request that main and the routes of a lambda receive."""

from sanic.request import Request

from ..private.request_ids import HEADER, request_id_of
from .logger import logger


class DataForMonitoring:
    """`tags` and `fields` (both dicts) that a lambda adds to the monitoring of its request."""

    def __init__(self):
        self.tags = {}
        self.fields = {}


class StandaloneLambdaRequest(Request):
    """Sanic's request (`json`, `body`, `headers`, `args`, `cookies`, `get_form()`, `app`, `respond()` ...) and more.

    `json` is None for an empty body; an unreadable one answers 400 by itself.
    Platform services are not connected: each client is None and each `...Enabled` flag False.
    """

    # Set when first asked for: a request is made for every call, and few calls need all of this.
    __slots__ = ("_data_for_monitoring", "_request_id")

    eventsEnabled = facesEnabled = matcherEnabled = handlersEnabled = senderEnabled = lvaEnabled = False
    remoteSDKEnabled = faceSampleStoreEnabled = bodySampleStoreEnabled = False
    imageOriginStoreEnabled = objectStoreEnabled = False

    @property
    def requestId(self):
        """The caller's Luna-Request-Id, or a new one of the form `<unix seconds>,<uuid4>`."""
        try:
            return self._request_id
        except AttributeError:
            self._request_id = request_id_of(self.headers)
            return self._request_id

    @property
    def config(self):
        """Its `userConfig` is the dict that was given with the lambda's parameters."""
        return self.app.ctx.surroundings.config

    @property
    def clients(self):
        """Has an attribute for each platform service; all are None."""
        return self.app.ctx.surroundings.clients

    @property
    def userCtx(self):
        """The instance of the lambda's own UserCtx, None if it defines none."""
        return self.app.ctx.surroundings.userCtx

    @property
    def dataForMonitoring(self):
        """Has the dicts `tags` and `fields`, kept as long as the request."""
        try:
            return self._data_for_monitoring
        except AttributeError:
            self._data_for_monitoring = DataForMonitoring()
            return self._data_for_monitoring

    def getBody(self):
        """The body as bytes, b"" if there is none."""
        return self.body

    def sendToMonitoring(self, points):
        """Takes monitoring points. No monitoring is connected, so they are only logged, at DEBUG."""
        logger.debug("monitoring points: %r", points)

    async def respond(self, response=None, **kwargs):
        """Starts the answer and returns it; `await answer.send(chunk)` and `await answer.eof()` stream its body.

        Takes a Sanic response, or `status`, `headers` and `content_type`. Return nothing from main afterwards.
        """
        response = await super().respond(response, **kwargs)
        surroundings = self.app.ctx.surroundings
        headers = response.headers
        headers[HEADER] = self.requestId
        if surroundings.version:
            headers["Lambda-Version"] = surroundings.version
        surroundings.statistics.count(self, response.status)
        return response

    async def streamResponse(self, chunks, statusCode=200, contentType="application/octet-stream", headers=None):
        """Answers with a body that is sent while it is made: `chunks` is an iterable, async or not, of bytes or str."""
        answer = await self.respond(status=statusCode, content_type=contentType, headers=headers)
        if hasattr(chunks, "__aiter__"):
            async for chunk in chunks:
                await answer.send(chunk)
        else:
            for chunk in chunks:
                await answer.send(chunk)
        await answer.eof()
