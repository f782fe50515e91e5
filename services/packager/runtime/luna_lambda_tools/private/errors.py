"""Every exception becomes a problem; what only the author may see goes to the log."""

from sanic.exceptions import SanicException
from sanic.handlers import ErrorHandler

from ..public.exceptions import UserException
from ..public.logger import logger
from .answers import LAMBDA_EXCEPTION, LambdaFault, phrase_of, problem


class Problems(ErrorHandler):
    """Answers exceptions. The server's own (no such route, unreadable request) keep their status, headers and words."""

    def default(self, request, exception):
        if isinstance(exception, UserException):
            return answer_of_the_author(request, exception)
        if isinstance(exception, SanicException):
            return answer_of_the_server(request, exception)
        if isinstance(exception, LambdaFault):
            logger.error(str(exception), exc_info=exception.__cause__)
            return problem(request, 500, exception, LAMBDA_EXCEPTION)
        logger.error("the lambda raised an exception", exc_info=exception)
        detail = f"the lambda raised {type(exception).__name__}; the traceback is in its log"
        return problem(request, 500, detail, LAMBDA_EXCEPTION)


def answer_of_the_author(request, exception):
    status = exception.statusCode
    if not isinstance(status, int) or not 200 <= status <= 599:
        logger.error("%s.statusCode must be a number from 200 to 599, not %r", type(exception).__name__, status)
        status = 500
    return problem(request, status, exception.errorText, LAMBDA_EXCEPTION)


def answer_of_the_server(request, exception):
    status = exception.status_code
    if status < 500:
        return problem(request, status, exception, headers=exception.headers)
    logger.error("the request failed", exc_info=exception)
    return problem(request, status, phrase_of(status), headers=exception.headers)
