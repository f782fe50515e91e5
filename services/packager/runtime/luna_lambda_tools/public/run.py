"""Serves the lambda of the current folder."""

import sys
from functools import partial

from ..private.logs import write_logs_line_by_line
from ..private.parent import end_this_group_with_the_parent
from ..private.server import serve_in_this_process
from ..private.settings import BadSettings, read_settings
from ..private.sockets import bind
from .logger import logger

LAMBDA_TYPES = ("standalone",)


def run(lambdaType="standalone", host=None, port=None, workers=None):
    """Serves lambda_main.py until SIGTERM or SIGINT, then ends the process with its exit code.

    0 after an orderly end, 1 after a failure, which is in the log. What is None comes from the environment:
    LAMBDA_HOST (0.0.0.0), LAMBDA_PORT (8000; 0 takes a free port), LAMBDA_WORKERS (1).
    Raises ValueError for an unknown lambdaType.
    """
    if lambdaType not in LAMBDA_TYPES:
        raise ValueError(f"lambdaType must be one of {', '.join(LAMBDA_TYPES)}, not {lambdaType!r}")
    write_logs_line_by_line("INFO")
    try:
        settings = read_settings({"LAMBDA_HOST": host, "LAMBDA_PORT": port, "LAMBDA_WORKERS": workers})
    except BadSettings as trouble:
        logger.error("the settings are not usable: %s", trouble)
        sys.exit(1)
    logger.setLevel(settings.log_level)
    sys.exit(serve_by(settings))


def serve_by(settings):
    if settings.ends_with_parent:
        end_this_group_with_the_parent()
    try:
        sock = bind(settings.host, settings.port)
    except OSError as trouble:
        logger.error("cannot listen on %s:%d: %s", settings.host, settings.port, trouble)
        return 1
    serve = partial(serve_in_this_process, settings, sock)
    if settings.workers == 1:
        return serve()
    # A lambda with one worker should not pay for the import.
    from ..private.workers import serve_in_workers

    return serve_in_workers(settings.workers, serve)
