"""One log for the author's logger, other libraries and the server: stderr, a line at a time."""

import logging
import sys
import time

from sanic.request import Request


class LineFormatter(logging.Formatter):
    """UTC time to the millisecond, level, message and, inside a request, its id."""

    def formatTime(self, record, datefmt=None):
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03d}Z"

    def formatMessage(self, record):
        line = f"{record.asctime} {record.levelname} {record.message}"
        request = Request._current.get(None)
        return f"{line} request_id={request.requestId}" if request is not None else line

    def usesTime(self):
        return True


def write_logs_line_by_line(level):
    """Sends all logging to stderr and has print() write each line at once, whatever stdout is."""
    # Not write_through, as PYTHONUNBUFFERED would have it: the end of a line would be a write of its own, and
    # the lines of several workers would run into each other.
    sys.stdout.reconfigure(line_buffering=True, write_through=False, errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The server tells of its own comings and goings at INFO; the author's lines should not drown in them.
    for name in ("sanic.root", "sanic.error", "sanic.server", "sanic.websockets", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
