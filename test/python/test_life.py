import signal
from time import monotonic
from unittest import TestCase, main as run_tests

from serving import PATIENCE_SECONDS, Serving, lambda_of

CODE = '''
import asyncio, os
from luna_lambda_tools import logger

async def pass_time(seconds):
    await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=seconds)

class UserCtx:
    async def onStart(self):
        print("onStart")
    async def onShutdown(self):
        print("onShutdown")

async def main(request):
    seconds = float((request.json or {}).get("seconds", 0))
    print("sleeping")
    await pass_time(seconds)
    print("slept")
    if request.args.get("crash"):
        os._exit(9)
    return {"slept": seconds}
'''
STUBBORN = '''
import threading
async def main(request):
    print("blocking")
    threading.Event().wait(600)
'''


class Life(TestCase):
    def serve(self, code=CODE, arguments=(), **environment):
        serving = Serving(lambda_of(code), arguments, **environment)
        self.addCleanup(serving.__exit__)
        return serving

    def begin(self, serving, body=b'{"seconds": 1}', path="/main"):
        """Sends a request and returns its connection before the answer is there."""
        connection = serving.connect()
        self.addCleanup(connection.close)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        serving.wait_for_line("sleeping")
        return connection

    def test_sigterm_finishes_requests_in_flight_then_runs_on_shutdown(self):
        for workers in (1, 2):
            with self.subTest(workers=workers):
                serving = self.serve(arguments=["--workers", str(workers)]).ready(workers)
                idle = serving.connect()
                self.addCleanup(idle.close)
                busy = self.begin(serving)
                serving.terminate()
                answer = busy.recv(65536)
                self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer)
                self.assertIn(b'{"slept":1.0}', answer)
                self.assertIn(b"connection: close", answer)
                self.assertEqual(serving.exit_code(), 0)
                self.assertIn("onShutdown", serving.lines[serving.lines.index("slept"):])
                self.assertEqual(serving.lines.count("onShutdown"), workers)
                self.assertRaises(ConnectionRefusedError, serving.connect)

    def test_no_new_connection_is_taken_while_draining(self):
        serving = self.serve().ready()
        self.begin(serving)
        serving.terminate()
        # Reset: the kernel had taken it just before the listener was closed; the server has not.
        with self.assertRaises((ConnectionRefusedError, ConnectionResetError)):
            while "slept" not in serving.lines:
                serving.connect().close()
        self.assertNotIn("slept", serving.lines)

    def test_draining_has_an_end(self):
        serving = self.serve(LAMBDA_DRAIN_SECONDS="0.3").ready()
        self.begin(serving, b'{"seconds": 60}')
        began = monotonic()
        serving.terminate()
        self.assertEqual(serving.exit_code(), 0)
        self.assertLess(monotonic() - began, 5)
        self.assertIn("onShutdown", serving.lines)

    def test_the_port_opens_only_after_on_start(self):
        slow = CODE.replace('print("onStart")', 'await pass_time(0.2); print("onStart")')
        serving = self.serve(slow).ready()
        self.assertIn("onStart", serving.lines)
        self.assertEqual(serving.ask("GET", "/healthz").status, 200)

    def test_a_failing_start_ends_with_1_and_a_traceback(self):
        failures = {
            "import": ("import nowhere_to_be_found", "ModuleNotFoundError"),
            "syntax": ("def (", "SyntaxError"),
            "exit": ("import sys; sys.exit(0)", "importing lambda_main.py failed"),
            "onStart": (CODE.replace('print("onStart")', 'raise OSError("no model")'), "OSError: no model"),
            "no main": ("x = 1", "must define `async def main(request)`"),
            "plain main": ("def main(request): return {}", "must define `async def main(request)`"),
        }
        for name, (code, words) in failures.items():
            with self.subTest(name):
                self.assert_start_fails(code, words)

    def test_a_failing_start_of_workers_ends_with_1_and_a_traceback(self):
        failing = CODE.replace('print("onStart")', 'raise OSError("no model")')
        self.assert_start_fails(failing, "OSError: no model", ["--workers", "2"])

    def assert_start_fails(self, code, words, arguments=()):
        began = monotonic()
        serving = self.serve(code, arguments)
        self.assertEqual(serving.exit_code(), 1, serving.log)
        self.assertLess(monotonic() - began, 5)
        self.assertIn(words, serving.log)
        self.assertTrue(serving.all_have_ended())

    def test_a_failing_on_shutdown_is_not_hidden(self):
        serving = self.serve(CODE.replace('print("onShutdown")', 'raise OSError("stuck")')).ready()
        serving.terminate()
        self.assertEqual(serving.exit_code(), 1)
        self.assertIn("OSError: stuck", serving.log)

    def test_sigterm_before_the_port_opens_ends_at_once(self):
        serving = self.serve("import threading; print('loading'); threading.Event().wait(60)")
        serving.wait_for_line("loading")
        serving.terminate()
        self.assertEqual(serving.exit_code(), 0)

    def test_when_the_parent_dies_the_whole_group_ends(self):
        for workers in (1, 2):
            with self.subTest(workers=workers):
                serving = self.serve(arguments=["--workers", str(workers)], LAMBDA_ENDS_WITH_PARENT="1").ready(workers)
                serving.process.stdin.close()
                self.assertEqual(serving.exit_code(), 0)
                self.assertTrue(serving.all_have_ended())
                self.assertIn("onShutdown", serving.lines)

    def test_when_the_parent_dies_even_a_blocked_lambda_ends(self):
        serving = self.serve(STUBBORN, LAMBDA_ENDS_WITH_PARENT="1").ready()
        with serving.connect() as connection:
            connection.sendall(b"GET /main HTTP/1.1\r\nHost: x\r\n\r\n")
            serving.wait_for_line("blocking")
            serving.process.stdin.close()
            self.assertEqual(serving.exit_code(), -signal.SIGKILL)

    def test_one_that_stands_still_ends_and_says_where(self):
        ways = {
            "waiting": STUBBORN,
            # Not even another thread runs while an expression goes back and forth.
            "computing": "import re\nasync def main(request):\n    print('blocking')\n    re.match('(a+)+$', 'a' * 99 + 'b')\n",
        }
        for name, code in ways.items():
            for workers in (1, 2):
                with self.subTest(name, workers=workers):
                    serving = self.serve(code, ["--workers", str(workers)], LAMBDA_SILENCE_SECONDS="0.5").ready(workers)
                    with serving.connect() as connection:
                        connection.sendall(b"GET /main HTTP/1.1\r\nHost: x\r\n\r\n")
                        self.assertEqual(serving.exit_code(), 1)
                    self.assertIn("Timeout (0:00:00.500000)!", serving.lines)
                    self.assertRegex(serving.log, r'File ".*/lambda_main.py", line \d in main')
                    self.assertTrue(serving.all_have_ended())

    def test_one_that_waits_and_one_that_stops_do_not_stand_still(self):
        slow = CODE.replace('print("onShutdown")', 'import threading; threading.Event().wait(0.6); print("onShutdown")')
        serving = self.serve(slow, LAMBDA_SILENCE_SECONDS="0.3").ready()
        self.assertEqual(serving.ask("POST", "/main", b'{"seconds": 1}').status, 200)
        serving.terminate()
        self.assertEqual(serving.exit_code(), 0)
        self.assertIn("onShutdown", serving.lines)

    def test_stdin_is_left_alone_unless_asked(self):
        serving = self.serve().ready()
        serving.process.stdin.close()
        for _ in range(30):
            self.assertEqual(serving.ask("GET", "/healthz").status, 200)

    def test_workers_end_when_the_process_that_started_them_is_killed(self):
        serving = self.serve(arguments=["--workers", "2"]).ready(2)
        serving.process.kill()
        serving.process.wait()
        self.assertTrue(serving.all_have_ended())

    def test_a_worker_that_dies_ends_the_lambda(self):
        serving = self.serve(arguments=["--workers", "2"]).ready(2)
        self.begin(serving, b"{}", "/main?crash=1")
        self.assertEqual(serving.exit_code(), 1)
        self.assertTrue(serving.all_have_ended())

    def test_settings_that_cannot_be_used_are_told_all_at_once(self):
        bad = {"LAMBDA_DRAIN_SECONDS": "soon", "LAMBDA_USER_CONFIG": "/nowhere.json", "LAMBDA_LOG_LEVEL": "loud"}
        serving = self.serve(arguments=["--workers", "0"], **bad)
        self.assertEqual(serving.exit_code(), 1)
        for name in ("LAMBDA_WORKERS", *bad):
            self.assertIn(name, serving.log)

    def test_a_port_in_use_is_said_so(self):
        first = self.serve().ready()
        second = self.serve(arguments=["--port", str(first.port)])
        self.assertEqual(second.exit_code(), 1)
        self.assertIn(f"cannot listen on 127.0.0.1:{first.port}", second.log)


if __name__ == "__main__":
    run_tests()
