from luna_lambda_tools import StandaloneLambdaRequest


async def main(request: StandaloneLambdaRequest) -> dict:
    asked = request.json or {}
    return {"hello": asked.get("name", "world")}
