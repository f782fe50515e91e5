"""The id that ties a request to its log lines and its answer."""

import re
from random import getrandbits
from time import time

HEADER = "Luna-Request-Id"
acceptable = re.compile(r"[\x21-\x7e]{1,128}").fullmatch

# The bits of a uuid that say "version 4, the usual variant", and those that are free.
VERSION_4 = 0x4 << 76 | 0x2 << 62
FREE = ~(0xF << 76 | 0x3 << 62)


def request_id_of(headers):
    """The caller's id if it is visible ASCII of at most 128 characters, else a new one."""
    given = headers.get(HEADER)
    if given is not None and acceptable(given := given.strip()):
        return given
    return new_request_id()


def new_request_id():
    """`<unix seconds>,<uuid4>`. It names and guards nothing, so it need not wait for the system's random numbers,
    which took a tenth of a small request's time."""
    digits = f"{getrandbits(128) & FREE | VERSION_4:032x}"
    return f"{int(time())},{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
