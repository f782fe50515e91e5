"""What the author of a lambda imports. Each name also lives in its own module of `luna_lambda_tools.public`."""

from .public.activity import monitorLastActivity
from .public.config import lambdaConfig
from .public.exceptions import UserException
from .public.handlers import LambdaUserHandler
from .public.logger import logger
from .public.metrics import Counter, Gauge, Histogram, Summary
from .public.requests import StandaloneLambdaRequest

__all__ = [
    "Counter",
    "Gauge",
    "Histogram",
    "LambdaUserHandler",
    "StandaloneLambdaRequest",
    "Summary",
    "UserException",
    "lambdaConfig",
    "logger",
    "monitorLastActivity",
]
