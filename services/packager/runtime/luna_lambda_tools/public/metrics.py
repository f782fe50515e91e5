"""Metrics of a lambda's own, shown at /lambda_metrics with the label `lambda_id`.

Make them once, at module level, and keep them in a list that is named USER_METRICS. A metric is shown from the
moment it is made. With several workers counters, histograms, summaries and gauges are the sum over all workers.
`labels` maps each name in `labelNames` to its value; ValueError if the names differ.
"""

from ..private.registry import registry


class Metric:
    """What the four kinds share: `name` and `labelNames` follow the Prometheus rules, ValueError otherwise."""

    kind: str
    options: dict = {}

    def __init__(self, name, description, labelNames=(), **options):
        import prometheus_client

        make = getattr(prometheus_client, self.kind)
        self._metric = make(name, description, labelNames, registry=registry(), **self.options, **options)

    def _with(self, labels):
        return self._metric.labels(**labels) if labels else self._metric


class Counter(Metric):
    """A number that only grows; shown as `<name>_total`."""

    kind = "Counter"

    def inc(self, x=1, labels=None):
        """Adds `x`, which is not negative (ValueError)."""
        self._with(labels).inc(x)


class Gauge(Metric):
    """A number that goes up and down."""

    kind = "Gauge"
    options = {"multiprocess_mode": "sum"}

    def set(self, x, labels=None):
        """Makes `x` the value of this worker."""
        self._with(labels).set(x)

    def inc(self, x=1, labels=None):
        """Adds `x`."""
        self._with(labels).inc(x)

    def dec(self, x=1, labels=None):
        """Takes `x` away."""
        self._with(labels).dec(x)


class Histogram(Metric):
    """Counts observations in `buckets`: upper bounds in rising order, in the unit of what is observed."""

    kind = "Histogram"

    def __init__(self, name, description, labelNames=(), buckets=None):
        super().__init__(name, description, labelNames, **({"buckets": buckets} if buckets else {}))

    def observe(self, x, labels=None):
        """Counts `x` in."""
        self._with(labels).observe(x)


class Summary(Metric):
    """The count and the sum of observations."""

    kind = "Summary"

    def observe(self, x, labels=None):
        """Counts `x` in."""
        self._with(labels).observe(x)
