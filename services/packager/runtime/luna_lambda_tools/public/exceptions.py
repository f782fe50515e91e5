"""Errors that a lambda raises on purpose."""


class UserException(Exception):
    """Raise a subclass to answer with an error of your own.

    `statusCode` is the HTTP status of the answer (200 to 599), `errorText` becomes its `detail`.
    """

    statusCode: int = 500
    errorText: str = "The lambda raised an exception."
