import re
from time import time
from unittest import TestCase, main as run_tests

from serving import Serving, lambda_of

CODE = '''
import os
from luna_lambda_tools import Counter, Gauge, Histogram, Summary, monitorLastActivity

calls = Counter("calls", "Calls by colour", ["colour"])
plain = Counter("plain", "Calls")
level = Gauge("level", "A level")
sizes = Histogram("sizes", "Sizes", buckets=[1, 10])
waits = Summary("waits", "Waits", ["where"])
USER_METRICS = [calls, plain, level, sizes, waits]

@monitorLastActivity
async def work(x):
    return x * 2

async def main(request):
    calls.inc(2, labels={"colour": "red"})
    plain.inc()
    level.set(4)
    sizes.observe(5)
    waits.observe(1.5, labels={"where": "here"})
    return {"worked": await work(2), "pid": os.getpid()}
'''


def value(page, series):
    """The value of one series of a page in the Prometheus text format."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", page, re.MULTILINE)
    if not found:
        raise AssertionError(f"{series} is not in:\n{page}")
    return float(found.group(1))


class Metrics(TestCase):
    def serve(self, workers):
        serving = Serving(lambda_of(CODE), ["--workers", str(workers)], LAMBDA_ID="L1")
        self.addCleanup(serving.__exit__)
        return serving.ready(workers)

    def test_the_lambdas_own_metrics_are_shown_with_its_id(self):
        serving = self.serve(1)
        self.assertEqual(serving.ask().json()["worked"], 4)
        page = serving.ask("GET", "/lambda_metrics")
        self.assertTrue(page.headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        self.assertEqual(value(page.text, 'calls_total{colour="red",lambda_id="L1"}'), 2)
        self.assertEqual(value(page.text, 'level{lambda_id="L1"}'), 4)
        self.assertEqual(value(page.text, 'sizes_bucket{lambda_id="L1",le="1.0"}'), 0)
        self.assertEqual(value(page.text, 'sizes_bucket{lambda_id="L1",le="10.0"}'), 1)
        self.assertEqual(value(page.text, 'waits_sum{lambda_id="L1",where="here"}'), 1.5)
        self.assertAlmostEqual(value(page.text, 'lambda_last_activity_seconds{lambda_id="L1"}'), time(), delta=60)
        self.assertNotIn("lambda_requests", page.text)

    def test_requests_are_counted_by_route_method_and_status(self):
        serving = self.serve(1)
        for _ in range(3):
            serving.ask()
        serving.ask("GET", "/a")
        serving.ask("GET", "/b")
        serving.ask("BREW", "/b")
        page = serving.ask("GET", "/metrics").text
        main = 'method="POST",route="/main",status="200"'
        self.assertEqual(value(page, f"lambda_requests_total{{{main}}}"), 3)
        self.assertEqual(value(page, f"lambda_request_seconds_count{{{main}}}"), 3)
        self.assertEqual(value(page, 'lambda_requests_total{method="GET",route="unknown",status="404"}'), 2)
        self.assertNotIn("BREW", page)
        self.assertNotIn("calls", page)

    def test_several_workers_add_up(self):
        serving = self.serve(2)
        workers = {serving.ask().json()["pid"] for _ in range(60)}
        self.assertEqual(len(workers), 2, "one worker took all 60 requests, so nothing was added up")
        for _ in range(6):
            page = serving.ask("GET", "/lambda_metrics").text
            self.assertEqual(value(page, 'calls_total{colour="red",lambda_id="L1"}'), 120)
            self.assertEqual(value(page, 'plain_total{lambda_id="L1"}'), 60)
            self.assertEqual(value(page, 'level{lambda_id="L1"}'), 8)
            self.assertEqual(value(page, 'sizes_count{lambda_id="L1"}'), 60)
            self.assertAlmostEqual(value(page, 'lambda_last_activity_seconds{lambda_id="L1"}'), time(), delta=60)
        page = serving.ask("GET", "/metrics").text
        self.assertEqual(value(page, 'lambda_requests_total{method="POST",route="/main",status="200"}'), 60)
        serving.terminate()
        self.assertEqual(serving.exit_code(), 0)
        self.assertEqual(list((serving.folder / "tmp").iterdir()), [], "the shared numbers were left behind")


if __name__ == "__main__":
    run_tests()
