"""No process outlives the one that it was started for."""

import os
import signal
from functools import partial
from threading import Thread
from time import sleep

GRACE_SECONDS = 5


def end_this_group_with_the_parent():
    """When stdin ends, which the parent holds open, ends the whole process group."""
    when_closed(0, partial(os.killpg, os.getpgrp()))


def end_this_process_when_closed(reading_end):
    when_closed(reading_end, partial(os.kill, os.getpid()))


def when_closed(descriptor, kill):
    """Has a thread wait for the end of `descriptor`; it works even while the author's code blocks the event loop."""
    Thread(target=wait_and_end, args=(descriptor, kill), daemon=True).start()


def wait_and_end(descriptor, kill):
    while os.read(descriptor, 4096):
        pass
    kill(signal.SIGTERM)
    sleep(GRACE_SECONDS)
    kill(signal.SIGKILL)
