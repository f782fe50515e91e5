"""Turns the author's functions into Sanic handlers."""

from .activity import note_activity
from .answers import LambdaFault, json_answer


def answer_by_main(main):
    """Runs main and answers its dict."""

    async def answer(request):
        note_activity()
        try:
            result = await main(request)
        except SystemExit as exit:
            raise LambdaFault("main ended with sys.exit") from exit
        if request.responded:
            return None
        if not isinstance(result, dict):
            raise LambdaFault(f"main must return a dict; it returned {type(result).__name__}")
        return json_answer(result)

    return answer


def answer_by_handler(handler):
    """Makes an instance of the handler for each request and runs the method that is named after the request's."""

    async def answer(request, **parameters):
        note_activity()
        method = getattr(handler(request), request.method.lower())
        try:
            result = await method(**parameters)
        except SystemExit as exit:
            raise LambdaFault(f"{handler.__name__} ended with sys.exit") from exit
        if request.responded:
            return None
        if isinstance(result, dict):
            return json_answer(result)
        if result is None:
            raise LambdaFault(f"{handler.__name__} must return a dict or an answer; it returned NoneType")
        return result

    return answer
