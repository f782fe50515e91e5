"""The life of one serving process: import, onStart, listen, serve, drain, onShutdown."""

import asyncio
import gc
import os
import signal

import uvloop
from sanic.application.constants import ServerStage
from sanic.application.state import ApplicationServerInfo
from sanic.http.constants import HTTP

from ..public.logger import logger
from .standstill import end_when_standing_still
from .user_code import BadLambda, call_hook

BACKLOG = 1024
GLANCE_SECONDS = 0.02


def serve_in_this_process(settings, sock):
    """Serves on a bound socket until SIGTERM or SIGINT. Returns the exit code: 0, or 1 after an error in the log."""
    leave_at_once_when_asked()
    try:
        # Only now, since the import reads where worker processes share their metrics.
        from .app import build_app

        app = build_app(settings)
    except BadLambda as trouble:
        logger.error("the lambda cannot start: %s", trouble)
        return 1
    except (Exception, SystemExit):
        logger.exception("the lambda cannot start: importing lambda_main.py failed")
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(app, sock, settings))


def leave_at_once_when_asked():
    """Until requests are served there is nothing to finish; a container's first process would else ignore SIGTERM."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))


async def serve(app, sock, settings):
    user_ctx = app.ctx.surroundings.userCtx
    # Without this Sanic takes the app for stopped and refuses tasks of the author's.
    app.state.server_info.append(ApplicationServerInfo({"version": HTTP.VERSION_1}, ServerStage.SERVING))
    server = await app.create_server(sock=sock, backlog=BACKLOG, asyncio_server_kwargs={"start_serving": False})
    await server.startup()
    try:
        await call_hook(user_ctx, "onStart")
    except (Exception, SystemExit):
        logger.exception("the lambda cannot start: UserCtx.onStart failed")
        return 1
    stopping = when_asked_to_stop()
    watching = asyncio.create_task(end_when_standing_still(settings.silence_seconds))
    await server.start_serving()
    # What has been made so far stays; the garbage collector need not look at it again.
    gc.freeze()
    logger.info("serving on http://%s:%s", *sock.getsockname()[:2])
    await stopping.wait()
    await drain(app, server, settings.drain_seconds)
    # What the author does last may take as long as whoever stops the lambda lets it.
    watching.cancel()
    await asyncio.wait([watching])
    return await shut_down(user_ctx)


def when_asked_to_stop():
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def drain(app, server, seconds):
    """Takes no new connection, lets the requests in flight finish, and cuts off those that take too long."""
    app.config.KEEP_ALIVE = False
    server.server.close()
    deadline = asyncio.get_running_loop().time() + seconds
    while close_the_idle(server.connections) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(GLANCE_SECONDS)
    if server.connections:
        logger.warning("%d requests were cut off after %g s", len(server.connections), seconds)
    for connection in list(server.connections):
        connection.abort()


def close_the_idle(connections):
    """Closes connections between two requests and has the others close after their answer; returns what is left."""
    for connection in list(connections):
        if not connection.close_if_idle():
            connection.http.keep_alive = False
    return connections


async def shut_down(user_ctx):
    try:
        await call_hook(user_ctx, "onShutdown")
    except (Exception, SystemExit):
        logger.exception("UserCtx.onShutdown failed")
        return 1
    return 0
