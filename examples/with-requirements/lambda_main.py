import humanize
from luna_lambda_tools import StandaloneLambdaRequest, UserException


class NoNumber(UserException):
    statusCode = 400
    errorText = "send {\"bytes\": a number}"


async def main(request: StandaloneLambdaRequest) -> dict:
    asked = request.json
    if not isinstance(asked, dict) or not isinstance(asked.get("bytes"), (int, float)):
        raise NoNumber
    return {"size": humanize.naturalsize(asked["bytes"], binary=True)}
