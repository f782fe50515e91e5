"""The environment, read here and nowhere else, into one frozen object."""

import json
import os
from dataclasses import dataclass, field

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
GIBIBYTE = 1024**3


class BadSettings(Exception):
    """The settings cannot be used; its text holds every complaint, one a line."""


@dataclass(frozen=True)
class Settings:
    host: str
    port: int
    workers: int
    lambda_id: str
    lambda_version: str
    ends_with_parent: bool
    drain_seconds: float
    silence_seconds: float
    max_body_bytes: int
    log_level: str
    user_config: dict = field(repr=False)


class Reader:
    """Takes values by name and gathers the complaints instead of stopping at the first."""

    def __init__(self, values):
        self.values = values
        self.complaints = []

    def text(self, name, otherwise=""):
        return self.values.get(name) or otherwise

    def number(self, name, otherwise, least, most, kind=int):
        given = self.text(name, str(otherwise))
        try:
            number = kind(given)
        except ValueError:
            number = None
        if number is None or not least <= number <= most:
            self.complaints.append(f"{name} must be a number from {least} to {most}, not {given!r}")
            return otherwise
        return number

    def one_of(self, name, choices, otherwise):
        given = self.text(name, otherwise).upper()
        if given not in choices:
            self.complaints.append(f"{name} must be one of {', '.join(choices)}, not {given!r}")
        return given

    def json_object(self, name):
        path = self.text(name)
        if not path:
            return {}
        try:
            with open(path, encoding="utf-8") as file:
                value = json.load(file)
        except (OSError, ValueError) as trouble:
            self.complaints.append(f"{name}: {path} cannot be read as JSON: {trouble}")
            return {}
        if not isinstance(value, dict):
            self.complaints.append(f"{name}: {path} must hold a JSON object, not {type(value).__name__}")
            return {}
        return value


def read_settings(overrides=None, environment=os.environ):
    """The settings of this process.

    `overrides` maps names of the environment to values that win over it; None is no override.
    Raises BadSettings with all complaints at once.
    """
    given = {name: str(value) for name, value in (overrides or {}).items() if value is not None}
    reader = Reader({**environment, **given})
    settings = Settings(
        host=reader.text("LAMBDA_HOST", "0.0.0.0"),
        port=reader.number("LAMBDA_PORT", 8000, 0, 65535),
        workers=reader.number("LAMBDA_WORKERS", 1, 1, 1024),
        lambda_id=reader.text("LAMBDA_ID"),
        lambda_version=reader.text("LAMBDA_VERSION"),
        ends_with_parent=reader.text("LAMBDA_ENDS_WITH_PARENT") == "1",
        drain_seconds=reader.number("LAMBDA_DRAIN_SECONDS", 30.0, 0, 86400, float),
        silence_seconds=reader.number("LAMBDA_SILENCE_SECONDS", 60.0, 0.1, 86400, float),
        max_body_bytes=reader.number("LAMBDA_REQUEST_MAX_SIZE", GIBIBYTE, 1, 2**63),
        log_level=reader.one_of("LAMBDA_LOG_LEVEL", LOG_LEVELS, "INFO"),
        user_config=reader.json_object("LAMBDA_USER_CONFIG"),
    )
    if reader.complaints:
        raise BadSettings("\n".join(reader.complaints))
    return settings


def share_metrics_in(folder):
    """Tells prometheus_client, which only listens to the environment, where all workers keep their numbers."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
