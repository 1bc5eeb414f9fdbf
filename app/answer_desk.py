"""The thread that owns the decoder: takes the questions that wait, and answers them together.

While it computes, the next questions gather. Image tokens are made for all images of one version
at once, options are scored for all questions at once, and each token is generated for all of a
batch at once; a question that comes while others are being answered is read between two of their
tokens. Who dropped a question is not generated for any more.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType

from app.answer_batch import Conversation, Prompted, read_questions, score_options
from app.errors import AnswersLost, NotReady, TooManyQuestions
from app.tickets import Ticket
from app.vlm_metrics import VlmMetrics

logger = logging.getLogger(__name__)
LINGER = 0.003  # seconds that an idle desk gives questions that come at the same time
WAITING_FOR_EACH_ROW = 8
STEP_SECONDS = 2.0  # that a stop waits for a step: others have something to write before the end
STOPPING = "the service is stopping"


class AnswerDesk:
    """At most ``rows`` questions are being answered, and so many times that wait."""

    def __init__(self, rows: int, metrics: VlmMetrics) -> None:
        self._rows = rows
        self._metrics = metrics
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._talking = Conversation()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="answer-desk", daemon=True)
        self.on_failure: Callable[[Exception], None] = _log_failure

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answers no more: whoever waits is told. A long step is left to the end of the process."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=STEP_SECONDS)

    def submit(self, ticket: Ticket) -> None:
        """Puts a question in the queue. Raises `TooManyQuestions`, `NotReady`."""
        with self._changed:
            if self._stopping:
                raise NotReady(STOPPING)
            if len(self._waiting) >= WAITING_FOR_EACH_ROW * self._rows:
                self._waiting = deque(each for each in self._waiting if not each.dropped)
            if len(self._waiting) >= WAITING_FOR_EACH_ROW * self._rows:
                raise TooManyQuestions(len(self._waiting))
            self._waiting.append(ticket)
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify()

    def _run(self) -> None:
        failure: Exception = NotReady(STOPPING)
        try:
            while not self._stopping:
                fresh = self._gathered()
                with _Telling(fresh):
                    self._admit(fresh)
                self._continue()
        finally:
            if not self._stopping:
                failure = AnswersLost()
                self.on_failure(failure)
            self._tell_all(failure)

    def _gathered(self) -> list[Ticket]:
        """Questions for which there is room; waits for one while there is nothing to go on with."""
        with self._changed:
            if not self._talking.tickets:
                idle = not self._waiting
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if idle and not self._stopping:
                    self._changed.wait_for(self._is_full, timeout=LINGER)
            room = max(0, self._rows - len(self._talking.tickets))
            fresh = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
            self._metrics.waiting.set(len(self._waiting))
        return [ticket for ticket in fresh if not ticket.dropped]

    def _is_full(self) -> bool:
        return self._stopping or len(self._waiting) >= self._rows

    def _admit(self, fresh: Sequence[Ticket]) -> None:
        if not fresh:
            return
        for ticket in fresh:
            ticket.begin()
        self._metrics.batch.observe(len(fresh))
        seconds = self._metrics.seconds
        with seconds.labels("read").time():
            prompted = read_questions(fresh)
        self._metrics.prompt_tokens.inc(sum(each.tokens for each in prompted))
        with_options = [each for each in prompted if each.ticket.asked.options]
        others = [each for each in prompted if not each.ticket.asked.options]
        self._metrics.options.inc(len(with_options))
        self._metrics.texts.inc(len(others))
        if with_options:
            with _Telling(_tickets(with_options)), seconds.labels("score").time():
                score_options(with_options)
        if others:
            self._talking.join(others)
            self._metrics.rows.set(len(self._talking.tickets))

    def _continue(self) -> None:
        """One more token for everybody who is being answered."""
        open_before = self._talking.tickets
        if open_before:
            failing = _Telling(open_before)
            with failing, self._metrics.seconds.labels("generate").time():
                told = self._talking.step()
                self._metrics.answer_tokens.inc(told)
                self._metrics.steps.inc(bool(told))
            if failing.failed:
                self._talking = Conversation()
        self._metrics.rows.set(len(self._talking.tickets))

    def _tell_all(self, failure: Exception) -> None:
        with self._changed:
            self._stopping = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for ticket in [*waiting, *self._talking.tickets]:
            ticket.fail(failure)


class _Telling:
    """What goes wrong within is told to these questions and not to the thread, which has others to
    answer: a future would do the same. What is not an answer's failure ends the thread."""

    def __init__(self, tickets: Sequence[Ticket]) -> None:
        self._tickets = tickets
        self.failed = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.failed = True
        for ticket in self._tickets:
            ticket.fail(error)
            ticket.drop()
        return True


def _tickets(prompted: Sequence[Prompted]) -> list[Ticket]:
    return [each.ticket for each in prompted]


def _log_failure(error: Exception) -> None:
    logger.error("questions cannot be answered: %s", error)
