"""The id that ties a request to its log lines and its answer."""

import re
from time import time
from uuid import uuid4

HEADER = "Luna-Request-Id"
acceptable = re.compile(r"[\x21-\x7e]{1,128}").fullmatch


def request_id_of(headers):
    """The caller's id if it is visible ASCII of at most 128 characters, else a new `<unix seconds>,<uuid4>`."""
    given = headers.getone(HEADER, "").strip()
    return given if acceptable(given) else f"{int(time())},{uuid4()}"
