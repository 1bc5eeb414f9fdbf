"""What the service counts, in Prometheus' text format."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.vlm_metrics import VlmMetrics

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """One process's counters; times are seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.build = Info("emend_build", "What this process runs.", registry=self.registry)
        self.requests = Counter(
            "emend_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "emend_request_seconds",
            "Seconds from a request to the start of its answer.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.problems = Counter(
            "emend_problems",
            "Problem documents answered, by the last part of their type.",
            ("type",),
            registry=self.registry,
        )
        self.images = Counter(
            "emend_classified_images", "Images classified.", registry=self.registry
        )
        self.vlm = VlmMetrics(self.registry)
        self.live_version = Gauge(
            "emend_live_version",
            "The adapter version that answers; -1 before there is one.",
            registry=self.registry,
        )
        self.live_version.set(-1)
        self.live_unserved = Gauge(
            "emend_live_unserved",
            "1 while the last promotion cannot be served and the one before it answers.",
            registry=self.registry,
        )
        self.predictions_waiting = Gauge(
            "emend_predictions_waiting",
            "Predictions that are not yet written.",
            registry=self.registry,
        )
        self.predictions_lost = Counter(
            "emend_predictions_lost",
            "Predictions that could not be kept.",
            registry=self.registry,
        )
        self.nudges_lost = Counter(
            "emend_nudges_lost",
            "Nudges that the broker did not take; their jobs wait for the workers' own look.",
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answered request under its route's template."""
        self.requests.labels(method, route, str(status)).inc()
        self.latency.labels(method, route).observe(seconds)

    def render(self, looked_up: Iterable[Metric] = ()) -> bytes:
        """The text for a scrape: what is counted here, and what was ``looked_up`` for it."""
        once = CollectorRegistry()
        once.register(_Once(looked_up))
        return generate_latest(self.registry) + generate_latest(once)


class _Once(Collector):
    """Metrics that are at hand."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


class RequestMeter:
    """ASGI middleware that counts requests by route template, never by path."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, answered = time.perf_counter(), False

        def observe(status: int) -> None:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if route != "unmatched" else "other"
            self.metrics.observe(method, route, status, time.perf_counter() - begun)

        async def send_counted(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                observe(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, send_counted)
        finally:
            if not answered:  # it fails: the server's outermost layer answers with a 500
                observe(500)
