"""Finds in lambda_main.py what the author wrote for us."""

import sys
from dataclasses import dataclass
from importlib import import_module
from inspect import isawaitable, iscoroutinefunction, unwrap
from os import getcwd
from typing import Any, Callable

from ..public.handlers import LambdaUserHandler


class BadLambda(Exception):
    """lambda_main.py lacks something; the text says what."""


@dataclass(frozen=True)
class UserCode:
    main: Callable
    user_ctx: Any
    handlers: list


def load_user_code():
    """Imports lambda_main of the current folder. Raises BadLambda, or whatever the import raises."""
    if getcwd() not in sys.path:
        sys.path.insert(0, getcwd())
    module = import_module("lambda_main")
    make_user_ctx = getattr(module, "UserCtx", None)
    return UserCode(
        main=find_main(module),
        user_ctx=make_user_ctx() if make_user_ctx else None,
        handlers=find_handlers(module),
    )


def find_main(module):
    main = getattr(module, "main", None)
    if not callable(main) or not iscoroutinefunction(unwrap(main)):
        raise BadLambda("lambda_main.py must define `async def main(request)`")
    return main


def find_handlers(module):
    found = {value for value in vars(module).values() if is_a_handler(value)}
    for handler in found:
        if not handler.getAllowedMethods():
            raise BadLambda(f"{handler.__name__} has a route but no method named after an HTTP method")
    return sorted(found, key=lambda handler: handler.__name__)


def is_a_handler(value):
    # A subclass without a route is a base for others.
    return isinstance(value, type) and issubclass(value, LambdaUserHandler) and hasattr(value, "route")


async def call_hook(user_ctx, name):
    """Runs onStart or onShutdown if the author's UserCtx has it."""
    hook = getattr(user_ctx, name, None)
    if hook is not None:
        outcome = hook()
        if isawaitable(outcome):
            await outcome
