import re
from unittest import main as run_tests

from served import Served

NEW_ID = re.compile(r"\d{10},[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

CODE = '''
import sys
from datetime import datetime
from luna_lambda_tools import StandaloneLambdaRequest, UserException, logger

class NoFace(UserException):
    statusCode = 422
    errorText = "there is no face"

class BadStatus(UserException):
    statusCode = 99
    errorText = "never mind"

def secret():
    raise KeyError("hunter2")

async def main(request: StandaloneLambdaRequest) -> dict:
    wish = (request.json or {}).get("wish")
    if wish == "log":
        print("printed")
        logger.info("logged")
    outcomes = {
        "list": [1], "none": None, "text": "x", "set": {"a": {1}}, "date": {"a": datetime.now()},
        "nan": {"a": float("nan")}, "key": {(1, 2): 3}, "surrogate": {"a": chr(0xd800)},
    }
    if wish == "face":
        raise NoFace
    if wish == "status":
        raise BadStatus()
    if wish == "secret":
        secret()
    if wish == "exit":
        sys.exit(3)
    return outcomes.get(wish, {"wish": wish}) if wish in outcomes else {"wish": wish}
'''


class Main(Served):
    code = CODE
    environment = {"LAMBDA_VERSION": "7"}

    def wish(self, wish):
        return self.ask(body={"wish": wish})

    def test_answers_the_dict_of_main_as_bare_json(self):
        answer = self.wish("fish")
        self.assertEqual((answer.status, answer.json()), (200, {"wish": "fish"}))
        self.assertEqual(answer.headers["Content-Type"], "application/json")

    def test_takes_get_and_an_empty_body(self):
        for method in ("GET", "POST"):
            self.assertEqual(self.ask(method).json(), {"wish": None})

    def test_a_result_that_is_no_dict_is_500_and_names_its_type(self):
        for wish, type_name in (("list", "list"), ("none", "NoneType"), ("text", "str")):
            detail = self.assert_problem(self.wish(wish), 500, 42004)
            self.assertEqual(detail, f"main must return a dict; it returned {type_name}")

    def test_a_dict_that_json_cannot_hold_is_500(self):
        for wish in ("set", "date", "nan", "key"):
            with self.subTest(wish):
                self.assertIn("cannot be written as JSON", self.assert_problem(self.wish(wish), 500, 42004))

    def test_odd_text_is_still_json(self):
        self.assertEqual(self.wish("surrogate").json(), {"a": chr(0xD800)})

    def test_a_user_exception_answers_its_own_status_and_text(self):
        self.assertEqual(self.assert_problem(self.wish("face"), 422, 42004), "there is no face")

    def test_a_user_exception_with_an_impossible_status_is_500(self):
        self.assert_problem(self.wish("status"), 500, 42004)

    def test_any_other_exception_is_500_and_its_traceback_only_in_the_log(self):
        answer = self.wish("secret")
        self.assertIn("KeyError", self.assert_problem(answer, 500, 42004))
        self.assertNotIn("hunter2", answer.text)
        self.serving.wait_for_line("KeyError: 'hunter2'")
        self.assertIn("in secret", self.serving.log)

    def test_sys_exit_in_main_does_not_end_the_server(self):
        self.assert_problem(self.wish("exit"), 500, 42004)
        self.assertEqual(self.wish("fish").status, 200)

    def test_a_body_that_is_no_json_is_the_callers_fault(self):
        self.assert_problem(self.ask(body=b"{nonsense"), 400)

    def test_unknown_routes_and_methods_are_problems(self):
        self.assert_problem(self.ask("GET", "/nowhere"), 404)
        answer = self.ask("DELETE")
        self.assert_problem(answer, 405)
        self.assertEqual(set(re.split(r",\s*", answer.headers["Allow"])), {"GET", "POST"})

    def test_takes_over_a_request_id_that_is_visible_ascii(self):
        for given in ("abc", "1700000000,8e6b", "!" * 128, "~"):
            self.assertEqual(self.ask(headers={"Luna-Request-Id": given}).headers["Luna-Request-Id"], given)

    def test_makes_a_new_request_id_otherwise(self):
        for given in (None, "", "a b", "!" * 129, "\xe9"):
            headers = {} if given is None else {"Luna-Request-Id": given}
            self.assertRegex(self.ask(headers=headers).headers["Luna-Request-Id"], NEW_ID)
        self.assertNotEqual(*(self.ask().headers["Luna-Request-Id"] for _ in range(2)))

    def test_every_answer_says_the_version(self):
        for answer in (self.ask(), self.wish("secret"), self.ask("GET", "/nowhere"), self.ask("GET", "/healthz")):
            self.assertEqual(answer.headers["Lambda-Version"], "7")

    def test_prints_and_logs_come_at_once_a_line_each(self):
        self.ask(body={"wish": "log"}, headers={"Luna-Request-Id": "log-1"})
        self.serving.wait_for_line("printed")
        self.serving.wait_for_line("logged")
        self.assertIn("printed", self.serving.lines)
        stamped = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO logged request_id=log-1$"
        self.assertTrue([line for line in self.serving.lines if re.match(stamped, line)], self.serving.log)

    def test_is_healthy(self):
        answer = self.ask("GET", "/healthz")
        self.assertEqual((answer.status, answer.json()), (200, {"status": "ok"}))


if __name__ == "__main__":
    run_tests()
