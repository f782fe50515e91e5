"""The Sanic application of one lambda: its routes, its limits, its manner of answering."""

from sanic import Sanic
from sanic.response import HTTPResponse

from ..public.requests import StandaloneLambdaRequest
from .answers import json_answer
from .calls import answer_by_handler, answer_by_main
from .errors import Problems
from .registry import Page
from .static_files import static_files
from .statistics import NAMES
from .surroundings import surroundings_of
from .user_code import load_user_code

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
HOUR = 3600


def build_app(settings):
    """Imports the lambda and returns the app that serves it. Raises whatever the import raises."""
    app = Sanic(
        "lambda",
        request_class=StandaloneLambdaRequest,
        error_handler=Problems(),
        configure_logging=False,
        env_prefix=None,
    )
    app.config.update(limits_by(settings))
    app.ctx.surroundings = surroundings_of(settings)
    code = load_user_code()
    app.ctx.surroundings.userCtx = code.user_ctx
    app.add_route(answer_by_main(code.main), "/main", methods=["GET", "POST"], name="main")
    for handler in code.handlers:
        add_handler(app, handler)
    add_own_routes(app, settings)
    return app


def limits_by(settings):
    return {
        "ACCESS_LOG": False,
        "AUTO_EXTEND": False,
        "MOTD": False,
        "REQUEST_MAX_SIZE": settings.max_body_bytes,
        # How long a lambda may think is for its caller to decide: kiln's proxy has a limit of its own.
        "RESPONSE_TIMEOUT": HOUR,
    }


def add_handler(app, handler):
    app.add_route(
        answer_by_handler(handler),
        handler.route,
        methods=handler.getAllowedMethods(),
        name=f"route-{handler.__name__}",
        stream=handler.streamBody,
        unquote=True,
    )


def add_own_routes(app, settings):
    page_by_path = {
        "/metrics": Page(lambda name: name in NAMES, {}, settings.workers > 1),
        "/lambda_metrics": Page(
            lambda name: name not in NAMES, {"lambda_id": settings.lambda_id}, settings.workers > 1
        ),
    }
    for path, page in page_by_path.items():
        app.add_route(show(page), path, name=path.strip("/"))
    app.add_route(healthy, "/healthz", name="healthz")
    app.add_route(static_files("static"), "/static/<path:path>", methods=["GET", "HEAD"], name="static")


async def healthy(request):
    # The port only opens once onStart is done, so whoever can ask may know.
    return json_answer({"status": "ok"})


def show(page):
    async def answer(request):
        return HTTPResponse(page.text(), content_type=PROMETHEUS_TEXT)

    return answer
