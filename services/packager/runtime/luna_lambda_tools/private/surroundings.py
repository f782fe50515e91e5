"""What every request of one process shares."""

from dataclasses import dataclass, field
from typing import Any

from .statistics import RequestStatistics


class Config:
    """`userConfig` is the object that was given with the lambda's parameters, {} if none was."""

    def __init__(self, userConfig):
        self.userConfig = userConfig


class Clients:
    """Clients of platform services. None is connected, so each is None."""

    faces = events = matcher = sdk = sender = handlers = videoAgent = api = None
    faceSamplesStore = bodySamplesStore = imageOriginStore = objectOriginStore = None


@dataclass
class Surroundings:
    config: Config
    version: str
    userCtx: Any = None
    clients: Clients = field(default_factory=Clients)
    statistics: RequestStatistics = field(default_factory=RequestStatistics)


def surroundings_of(settings):
    return Surroundings(Config(settings.user_config), settings.lambda_version)
