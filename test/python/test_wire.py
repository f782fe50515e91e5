from unittest import main as run_tests

from served import Served

CODE = '''
async def main(request):
    return {"size": len(request.body), "sum": sum(request.body[:10])}
'''


class Wire(Served):
    code = CODE
    environment = {"LAMBDA_REQUEST_MAX_SIZE": str(150 * 1024**2)}

    def test_takes_a_huge_body(self):
        size = 120 * 1024**2
        self.assertEqual(self.ask(body=b"\x01" * size).json(), {"size": size, "sum": 10})

    def test_refuses_a_body_beyond_the_limit_before_it_has_read_it(self):
        answer = self.serving.send_raw(b"POST /main HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\nabc")
        self.assert_raw_problem(answer, 413)

    def test_takes_a_chunked_body(self):
        chunked = b"POST /main HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        self.assertIn(b'"size":5', self.serving.send_raw(chunked))

    def test_garbage_is_answered_with_a_problem_and_closed(self):
        garbage = (
            b"complete nonsense\r\n\r\n", b"GET\r\n\r\n", b"GET /main HTTP/9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
            b"GET /main HTTP/1.1\r\nno colon\r\n\r\n", b"POST /main HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            b"POST /main HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST /main HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        )
        for content in garbage:
            with self.subTest(content):
                self.assert_raw_problem(self.serving.send_raw(content), 400)
        self.assertEqual(self.ask().status, 200)

    def test_a_head_that_is_too_long_is_a_problem(self):
        self.assert_raw_problem(self.serving.send_raw(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"), 413)

    def test_serves_request_after_request_on_one_connection(self):
        one = b"GET /main HTTP/1.1\r\nHost: x\r\n\r\n"
        self.assertEqual(self.serving.send_raw(one * 3).count(b"HTTP/1.1 200 OK"), 3)

    def assert_raw_problem(self, answer, status):
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 %d " % status), answer)
        self.assertIn(b"content-type: application/problem+json", head)
        self.assertIn(b"Luna-Request-Id: ", head)
        self.assertNotIn(b"Traceback", body)


if __name__ == "__main__":
    run_tests()
