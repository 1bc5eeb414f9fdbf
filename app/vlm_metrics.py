"""What is counted about questions, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class VlmMetrics:
    """One process's counters; times are seconds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.loaded = Gauge(
            "emend_vlm_loaded",
            "1 while a vision-language model can be asked, 0 while none is loaded.",
            registry=registry,
        )
        questions = Counter(
            "emend_vlm_questions",
            "Questions put to the vision-language model, by the kind of answer.",
            ("answer",),
            registry=registry,
        )
        self.options = questions.labels("option")
        self.texts = questions.labels("text")
        self.batch = Histogram(
            "emend_vlm_batch_questions",
            "Questions that were taken together.",
            buckets=ROWS,
            registry=registry,
        )
        tokens = Counter(
            "emend_vlm_tokens",
            "Tokens of prompts (those of images among them), and tokens generated.",
            ("of",),
            registry=registry,
        )
        self.prompt_tokens = tokens.labels("prompt")
        self.answer_tokens = tokens.labels("answer")
        self.seconds = Histogram(
            "emend_vlm_seconds",
            "Seconds of one batch: reading images and prompts, scoring options, one more token.",
            ("work",),
            buckets=SECONDS,
            registry=registry,
        )
        for work in ("read", "score", "generate"):
            self.seconds.labels(work)
        self.steps = Counter(
            "emend_vlm_steps", "Times that one more token was generated.", registry=registry
        )
        self.waiting = Gauge(
            "emend_vlm_waiting", "Questions that wait to be taken.", registry=registry
        )
        self.rows = Gauge(
            "emend_vlm_answers_open", "Answers that are being generated.", registry=registry
        )
