from unittest import TestCase, main as run_tests

from served import Served
from serving import Serving, lambda_of

CODE = '''
from luna_lambda_tools import *
from luna_lambda_tools import lambdaConfig, logger
import luna_lambda_tools.public.metrics as metrics
from luna_lambda_tools.public.run import run
from luna_lambda_tools.public.requests import StandaloneLambdaRequest as Again
assert metrics.Counter is Counter and Again is StandaloneLambdaRequest and callable(run)

class UserCtx:
    async def onStart(self):
        self.started = True
    def greet(self):
        return "hi" if self.started else "too early"

async def main(request):
    if request.args.get("stream"):
        answer = await request.respond(content_type="text/plain")
        await answer.send("one ")
        await answer.send("two")
        await answer.eof()
        return
    form = request.get_form()
    request.dataForMonitoring.tags["a"] = "b"
    request.sendToMonitoring([{"point": 1}])
    if request.args.get("config"):
        return {"value": lambdaConfig["features"]["one"], "all": dict(lambdaConfig)}
    return {
        "body": request.getBody().decode(), "same": request.body == request.getBody(), "query": request.args.get("q"),
        "header": request.headers.get("x-mine"), "cookie": request.cookies.get("c"),
        "form": form.get("f") if form else None, "id": request.requestId,
        "user": request.config.userConfig, "clients": [request.clients.faces, request.clients.sdk, request.clients.matcher],
        "flags": [request.eventsEnabled, request.objectStoreEnabled], "greet": request.userCtx.greet(),
        "app": request.app.name, "tags": request.dataForMonitoring.tags,
    }
'''


class TheRequest(Served):
    code = CODE
    files = {"user.json": '{"k": [1, "v"]}', "lambda_config.json": '{"features": {"one": true}}'}
    environment = {"LAMBDA_USER_CONFIG": "user.json"}

    def test_gives_all_that_lambdas_ask_of_it(self):
        headers = {"X-Mine": "m", "Cookie": "c=d", "Luna-Request-Id": "r1"}
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        told = self.ask(path="/main?q=s%20t", body=b"f=g", headers=headers).json()
        self.assertEqual(told, {
            "body": "f=g", "same": True, "query": "s t", "header": "m", "cookie": "d", "form": "g", "id": "r1",
            "user": {"k": [1, "v"]}, "clients": [None, None, None], "flags": [False, False], "greet": "hi",
            "app": "lambda", "tags": {"a": "b"},
        })

    def test_main_may_answer_by_itself(self):
        answer = self.ask(path="/main?stream=1")
        self.assertEqual((answer.status, answer.text), (200, "one two"))
        self.assertTrue(answer.headers["Luna-Request-Id"])

    def test_lambda_config_reads_json(self):
        self.assertEqual(self.ask(path="/main?config=1").json(), {"value": True, "all": {"features": {"one": True}}})


class LambdaConfig(TestCase):
    def test_reads_yaml(self):
        with Serving({**lambda_of(CODE), "lambda_config.yml": "features:\n  one: 5\n"}) as serving:
            self.assertEqual(serving.ready().ask(path="/main?config=1").json()["value"], 5)

    def test_says_which_file_is_absent(self):
        with Serving(lambda_of(CODE)) as serving:
            self.assertEqual(serving.ready().ask(path="/main?config=1").status, 500)
            serving.wait_for_line("lambdaConfig needs lambda_config.json or lambda_config.yml")


if __name__ == "__main__":
    run_tests()
