"""How often each route was asked, what it answered and how long it took; shown at /metrics."""

from time import perf_counter

from sanic.constants import HTTP_METHODS

from .registry import registry

NAMES = {"lambda_requests", "lambda_request_seconds"}


class RequestStatistics:
    def __init__(self):
        import prometheus_client as prometheus

        labels = ["route", "method", "status"]
        self.requests = prometheus.Counter("lambda_requests", "Requests answered", labels, registry=registry())
        self.seconds = prometheus.Histogram(
            "lambda_request_seconds", "Seconds from a request's head to its answer's head", labels, registry=registry()
        )
        self.known = {}

    def count(self, request, status):
        """Counts an answer. The series of a route are looked up once, since this runs in every request."""
        route = request.route
        key = (route and route.path, request.method, status)
        series = self.known.get(key)
        if series is None:
            series = self._series_of(*key)
            if route is not None:
                self.known[key] = series
        requests, seconds = series
        requests.inc()
        began = request.stream.perft0
        # Without a beginning there was no readable head, so nothing was timed.
        if began is not None:
            seconds.observe(perf_counter() - began)

    def _series_of(self, path, method, status):
        # Callers choose unknown paths and methods at will; each must not become a series of its own.
        route = "unknown" if path is None else f"/{path}"
        values = (route, method if method in HTTP_METHODS else "other", status)
        return self.requests.labels(*values), self.seconds.labels(*values)
