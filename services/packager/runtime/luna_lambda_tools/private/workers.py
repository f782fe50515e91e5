"""Several processes on one socket, and the parent that keeps them together."""

import os
import signal
import sys
from shutil import rmtree
from tempfile import mkdtemp

from ..public.logger import logger
from .parent import end_this_process_when_closed
from .settings import share_metrics_in


def serve_in_workers(count, serve):
    """Forks `count` processes, each of which runs `serve() -> exit code`, and waits for them.

    All end together: at SIGTERM or SIGINT, which are passed on (0), or when one of them ends by itself (1),
    so that whoever runs the lambda sees the failure and starts it afresh.
    """
    shared = mkdtemp(prefix="lambda-metrics-")
    share_metrics_in(shared)
    try:
        return Workers(serve).run(count)
    finally:
        rmtree(shared, ignore_errors=True)


class Workers:
    def __init__(self, serve):
        self.serve = serve
        self.running = set()
        self.stopping = False
        # Never written to: its end tells the workers that the parent is gone, even if it was killed.
        self.lifeline = os.pipe()

    def run(self, count):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        for _ in range(count):
            self.running.add(self.fork())
        if self.stopping:
            self.stop()
        codes = [self.wait() for _ in range(count)]
        return int(any(codes))

    def fork(self):
        worker = os.fork()
        if worker:
            return worker
        code = 1
        try:
            os.close(self.lifeline[1])
            end_this_process_when_closed(self.lifeline[0])
            code = self.serve()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Not sys.exit: what the parent has on its stack is not the worker's to clean up.
            os._exit(code)

    def wait(self):
        """The exit code of the next worker that ends; 1 if nobody asked it to."""
        worker, status = os.wait()
        self.running.discard(worker)
        code = os.waitstatus_to_exitcode(status)
        if self.stopping:
            return code
        logger.error("worker %d ended with %d; the others are stopped", worker, code)
        self.stop()
        return 1

    def stop(self):
        self.stopping = True
        for worker in self.running:
            os.kill(worker, signal.SIGTERM)
