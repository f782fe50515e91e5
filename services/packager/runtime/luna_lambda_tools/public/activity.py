"""A lambda that works without being called can say that it is in use."""

from functools import wraps
from inspect import iscoroutinefunction

from ..private.activity import note_activity


def monitorLastActivity(func):
    """Decorates a function, async or not, so that each call counts as activity of the lambda.

    The time is `lambda_last_activity_seconds` at /lambda_metrics. Requests to main and to routes count by themselves.
    """
    if iscoroutinefunction(func):

        @wraps(func)
        async def noted(*args, **kwargs):
            note_activity()
            return await func(*args, **kwargs)

    else:

        @wraps(func)
        def noted(*args, **kwargs):
            note_activity()
            return func(*args, **kwargs)

    return noted
