"""The metrics of this process, and the pages that show them."""

from functools import lru_cache


@lru_cache
def registry():
    """The one registry. prometheus_client decides at its import whether worker processes share their values,
    so it is imported here, late, when the workers have already been told where to share them."""
    import prometheus_client

    prometheus_client.disable_created_metrics()
    return prometheus_client.CollectorRegistry()


class Page:
    """Some of the metrics, with labels added to each sample; added up over all workers if there are several."""

    def __init__(self, shows, labels, shared):
        self.shows = shows
        self.labels = labels
        self.shared = shared

    def collect(self):
        for metric in self._source().collect():
            if self.shows(metric.name):
                metric.samples = [self._labelled(sample) for sample in metric.samples]
                yield metric

    def text(self):
        """The page in the Prometheus text format, as bytes."""
        from prometheus_client import generate_latest

        return generate_latest(self)

    def _source(self):
        if not self.shared:
            return registry()
        from prometheus_client.multiprocess import MultiProcessCollector

        return MultiProcessCollector(None)

    def _labelled(self, sample):
        return sample._replace(labels={**self.labels, **sample.labels})
