"""What Prometheus is told: numbers of requests, images and batches, and nothing that they contain."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Monitoring:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        to = self.registry = CollectorRegistry()
        ProcessCollector(registry=to)
        self.requests = Counter(
            "vkd_requests", "Requests, by what was asked and status.", ("path", "status"), registry=to
        )
        self.seconds = Histogram("vkd_request_seconds", "Until the answer.", ("path",), buckets=SECONDS, registry=to)
        self.images = Counter("vkd_images", "Images of predictions, by outcome.", ("outcome",), registry=to)
        self.flagged = Counter("vkd_unlike", "Predictions of images unlike those of training.", registry=to)
        self.batches = Histogram("vkd_batch_images", "Images computed together.", buckets=IMAGES, registry=to)
        self.inside = Gauge("vkd_requests_inside", "Requests uploaded, waiting or computed now.", registry=to)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
