from unittest import main as run_tests

from served import Served

CODE = '''
from luna_lambda_tools import LambdaUserHandler, UserException

async def main(request):
    return {}

class Base(LambdaUserHandler):
    """No route, so only a base."""

class Things(Base):
    route = "/things/<id:int>"
    async def get(self, id):
        return {"id": id, "methods": self.getAllowedMethods(), "route": self.route, "app": self.app.name}
    async def delete(self, id):
        return self.success(statusCode=204)
    async def put(self, id):
        return self.success({"put": self.loadDataFromJson()}, 201)
    async def patch(self, id):
        return self.error(409, "busy")

def even(data):
    if data["n"] % 2:
        raise ValueError("n must be even")
    return data

class Forms(LambdaUserHandler):
    route = "/forms"
    async def get(self):
        page, size = self.getPagination()
        self.addDataForMonitoring(tags={"a": 1})
        return {"page": page, "size": size, "n": self.getQueryParam("n", 3, int), "query": self.loadDataFromQuery(),
                "account": self.getAccountIdFromHeader(), "tags": self.request.dataForMonitoring.tags,
                "config": self.config.userConfig}
    async def post(self):
        return self.validateJson(self.loadDataFromJson(), even)
    async def put(self):
        return None
    async def patch(self):
        raise RuntimeError("hidden words")

class Words(LambdaUserHandler):
    route = "/words/<word>"
    async def get(self, word):
        return {"word": word}

class Page(LambdaUserHandler):
    route = "page"
    async def get(self):
        return self.sendResponse("<p>hi</p>", contentType="text/html", headers={"X-Mine": "1"})

class Drip(LambdaUserHandler):
    route = "/drip"
    streamBody = True
    async def get(self):
        async def chunks():
            for n in range(3):
                yield f"{n};"
        await self.stream(chunks(), contentType="text/plain")
    async def post(self):
        size = 0
        async for chunk in self.request.stream:
            size += len(chunk)
        return {"size": size}
'''


class Routes(Served):
    code = CODE

    def test_a_route_receives_its_parameters(self):
        told = self.ask("GET", "/things/5").json()
        self.assertEqual(told.pop("id"), 5)
        self.assertEqual(told.pop("methods"), ["GET", "PUT", "PATCH", "DELETE"])
        self.assertEqual(told, {"route": "/things/<id:int>", "app": "lambda"})
        self.assert_problem(self.ask("GET", "/things/five"), 404)

    def test_a_parameter_arrives_as_the_caller_meant_it(self):
        self.assertEqual(self.ask("GET", "/words/a%20b%2Fc").json(), {"word": "a b/c"})
        self.assertEqual(self.ask("GET", "/words/50%2525").json(), {"word": "50%25"})

    def test_success_takes_a_status_and_a_body(self):
        answer = self.ask("DELETE", "/things/1")
        self.assertEqual((answer.status, answer.body), (204, b""))
        answer = self.ask("PUT", "/things/1", {"a": 1})
        self.assertEqual((answer.status, answer.json()), (201, {"put": {"a": 1}}))

    def test_error_is_a_problem(self):
        self.assertEqual(self.assert_problem(self.ask("PATCH", "/things/1"), 409, 42004), "busy")

    def test_a_method_that_is_not_defined_is_405_with_allow(self):
        answer = self.ask("POST", "/things/1")
        self.assert_problem(answer, 405)
        self.assertEqual({name.strip() for name in answer.headers["Allow"].split(",")}, {"GET", "PUT", "PATCH", "DELETE"})

    def test_reads_the_query(self):
        told = self.ask("GET", "/forms?page=2&page_size=7&x=1&x=2&n=4", headers={"Luna-Account-Id": "acme"}).json()
        self.assertEqual((told["page"], told["size"], told["n"], told["account"]), (2, 7, 4, "acme"))
        self.assertEqual((told["query"]["x"], told["query"]["page"]), (["1", "2"], "2"))
        self.assertEqual((told["tags"], told["config"]), ({"a": 1}, {}))
        self.assertEqual(self.ask("GET", "/forms").json()["page"], 1)

    def test_a_query_that_does_not_fit_is_400(self):
        for query in ("page=0", "page=x", "page_size=-1", "n=five", "page=%C2%B2"):
            with self.subTest(query):
                self.assert_problem(self.ask("GET", f"/forms?{query}"), 400, 42004)

    def test_checks_json(self):
        self.assertEqual(self.ask("POST", "/forms", {"n": 2}).json(), {"n": 2})
        self.assertIn("n must be even", self.assert_problem(self.ask("POST", "/forms", {"n": 3}), 400, 42004))
        self.assertIn("needs a JSON body", self.assert_problem(self.ask("POST", "/forms"), 400, 42004))

    def test_a_handler_that_fails_or_forgets_to_answer_is_500(self):
        self.assertNotIn("hidden words", self.assert_problem(self.ask("PATCH", "/forms"), 500, 42004))
        self.assertIn("Forms must return", self.assert_problem(self.ask("PUT", "/forms"), 500, 42004))

    def test_sends_any_content(self):
        answer = self.ask("GET", "/page")
        self.assertEqual((answer.text, answer.headers["X-Mine"]), ("<p>hi</p>", "1"))
        self.assertTrue(answer.headers["Content-Type"].startswith("text/html"))

    def test_streams_both_ways(self):
        self.assertEqual(self.ask("GET", "/drip").text, "0;1;2;")
        self.assertEqual(self.ask("POST", "/drip", bytes(3_000_000)).json(), {"size": 3_000_000})


class StaticFiles(Served):
    code = CODE
    files = {
        "static/a b.txt": "spaced", "static/deep/index.html": "<p>deep</p>", "static/big.bin": bytes(range(256)) * 4096,
        "static-not/secret.txt": "secret",
    }

    def test_serves_files_with_their_type_and_length(self):
        answer = self.ask("GET", "/static/deep/index.html")
        self.assertEqual((answer.status, answer.text), (200, "<p>deep</p>"))
        self.assertEqual(answer.headers["Content-Type"], "text/html; charset=utf-8")
        self.assertEqual(answer.headers["Content-Length"], "11")
        self.assertEqual(self.ask("GET", "/static/a%20b.txt").text, "spaced")
        self.assertEqual(self.ask("GET", "/static/big.bin").body, bytes(range(256)) * 4096)

    def test_head_and_conditional_requests_carry_no_body(self):
        answer = self.ask("HEAD", "/static/big.bin")
        self.assertEqual((answer.status, answer.headers["Content-Length"], answer.body), (200, "1048576", b""))
        since = {"If-Modified-Since": answer.headers["Last-Modified"]}
        self.assertEqual(self.ask("GET", "/static/big.bin", headers=since).status, 304)

    def test_nobody_climbs_out(self):
        climbs = ("../lambda_main.py", "%2e%2e/lambda_main.py", "..%2flambda_main.py", "deep/../../lambda_main.py",
                  "%2Fetc/passwd", "/etc/passwd", "../static-not/secret.txt", "%252e%252e/lambda_main.py", "a%00b",
                  "..%5clambda_main.py", "x" * 300)
        for path in climbs:
            with self.subTest(path):
                self.assert_problem(self.ask("GET", f"/static/{path}"), 404)

    def test_links_that_lead_out_are_not_followed(self):
        (self.serving.folder / "static/link").symlink_to("../lambda_main.py")
        self.assert_problem(self.ask("GET", "/static/link"), 404)

    def test_folders_are_not_listed(self):
        for path in ("/static", "/static/", "/static/deep", "/static/deep/"):
            self.assert_problem(self.ask("GET", path), 404)


if __name__ == "__main__":
    run_tests()
