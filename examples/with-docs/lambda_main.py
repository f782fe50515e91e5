from luna_lambda_tools import StandaloneLambdaRequest, UserException


class NoNumbers(UserException):
    statusCode = 400
    errorText = "numbers must be a list of numbers that is not empty"


async def main(request: StandaloneLambdaRequest) -> dict:
    asked = request.json
    numbers = asked.get("numbers") if isinstance(asked, dict) else None
    if not isinstance(numbers, list) or not numbers or not all(isinstance(number, (int, float)) for number in numbers):
        raise NoNumbers
    return {"mean": sum(numbers) / len(numbers)}
