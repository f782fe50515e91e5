"""When the lambda was last of use, for whoever switches idle lambdas off."""

from functools import lru_cache
from time import time

from ..public.metrics import Gauge


class LatestGauge(Gauge):
    """Of several workers the latest counts, not the sum."""

    options = {"multiprocess_mode": "max"}


@lru_cache
def last_activity():
    return LatestGauge("lambda_last_activity_seconds", "Unix time of the last activity, in seconds")


def note_activity():
    last_activity().set(time())
