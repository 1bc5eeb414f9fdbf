"""Failures of a request or of a start that no other room can name, as facts.

AppError
├── RequestError             the caller can mend it
│   ├── FieldInvalid · JsonInvalid · UnsupportedMediaType · BodyTooLarge
│   ├── ImageRefused         one image of several was refused by the encoder room
│   ├── Unsupported          a field asks for what is not done here
│   └── MethodUnknown · ConfigInvalid · LiveMoved · ModelUnknown
├── NotReady                 the service cannot answer yet, and says why
│   ├── ReplicaBehind        it answers, but not with the version that it should
│   └── VlmLoading           it classifies, but cannot answer questions yet
├── VlmAbsent · VlmUnusable  it will not answer questions, however often it is asked
├── TooManyQuestions         more wait than can be answered in good time
├── NoAnswerInTime           something that the answer depends on takes too long
├── VlmNeeded                what was sent takes a model that this service has not
├── NoMethodsAnnounced       no worker has said which methods it knows
└── StartError               the process must not start
    └── SettingsInvalid · DeviceUnavailable · EncoderLost
        · PredictionLogLost · AnswersLost · VlmLost
"""

from __future__ import annotations

from starlette.exceptions import HTTPException


class AppError(Exception):
    """Root of the failures of this room."""


class RequestError(AppError):
    """Root of what the caller can mend."""


class FieldInvalid(RequestError):
    """A field of the body, query or path holds something it may not."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


class Unsupported(FieldInvalid):
    """A field asks for something that this service does not do; leaving it out would help."""


class ImageRefused(RequestError):
    """One image of the request was refused; ``cause`` is the encoder room's error, ``place`` the
    image's number, or its field where images are not numbered."""

    def __init__(self, place: int | str, cause: Exception) -> None:
        self.field = place if isinstance(place, str) else f"image[{place}]"
        self.cause = cause
        super().__init__(f"{self.field}: {cause}")


class JsonInvalid(RequestError):
    """The body is not JSON, or holds a number that JSON does not have."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the body is not valid JSON: {reason}")


class UnsupportedMediaType(RequestError):
    """The body's ``Content-Type`` is not one that this path reads."""

    def __init__(self, found: str | None, accepted: tuple[str, ...]) -> None:
        self.found = found
        self.accepted = accepted
        super().__init__(
            f"this path reads {' or '.join(accepted)}, not {found or 'an unnamed type'}"
        )


class BodyTooLarge(RequestError, HTTPException):
    """The body is over the limit on a request's bytes.

    An ``HTTPException`` too, because FastAPI turns every other exception met while it reads a
    body into a 400.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        HTTPException.__init__(self, 413, f"the body is over the limit of {limit} bytes")

    def __str__(self) -> str:
        return self.detail


class NotReady(AppError):
    """The service cannot answer yet."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ReplicaBehind(NotReady):
    """This replica has served an earlier version than the promoted one for longer than it may."""

    def __init__(self, should_serve: int, serves: int, why: str, seconds: float) -> None:
        self.should_serve = should_serve
        self.serves = serves
        self.seconds = round(seconds, 1)
        super().__init__(
            f"version {should_serve} should be served, and version {serves} has been served instead"
            f" for {seconds:.0f} s: {why}"
        )


class VlmNeeded(AppError):
    """What was sent could never be used; ``what`` completes the sentence."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} takes a vision-language model, and EMEND_VLM is none")


class VlmLoading(NotReady):
    """The vision-language model is being loaded."""

    def __init__(self, source: str) -> None:
        self.vlm = source
        super().__init__(f"the vision-language model {source!r} is being loaded")


class VlmAbsent(AppError):
    """This service has no vision-language model, and will have none until it is started anew."""

    def __init__(self) -> None:
        super().__init__(
            "no vision-language model is served here (EMEND_VLM is none): questions about images"
            " are not answered, and asking again will not help"
        )


class VlmUnusable(AppError):
    """The vision-language model that this service should have cannot be loaded."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"questions about images cannot be answered: {reason}")


class TooManyQuestions(AppError):
    """As many questions wait for an answer as may wait."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        super().__init__(f"{waiting} questions wait for an answer already; ask again")


class ModelUnknown(RequestError):
    """A question names a vision-language model that is not served here."""

    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        self.model = model
        self.known = known
        super().__init__(f"no model {model[:200]!r} is served here; there is {', '.join(known)}")


class NoAnswerInTime(AppError):
    """A request was given up, so that its sender need not wait; ``advice`` is for the sender."""

    def __init__(self, seconds: float, advice: str) -> None:
        self.seconds = seconds
        super().__init__(f"there was no answer within {seconds:g} s; {advice}")


class NoMethodsAnnounced(AppError):
    """No worker has announced an edit method to this registry."""

    def __init__(self) -> None:
        super().__init__("no worker has announced its edit methods yet; start one and try again")


class MethodUnknown(RequestError):
    """No worker announced this edit method."""

    def __init__(self, method: str, known: tuple[str, ...]) -> None:
        self.method = method
        self.known = known
        super().__init__(f"method {method!r} is unknown; known: {', '.join(known)}")


class ConfigInvalid(RequestError):
    """The method's published schema refuses this config; ``problems`` is (field, reason) pairs."""

    def __init__(self, method: str, problems: tuple[tuple[str, str], ...]) -> None:
        self.method = method
        self.problems = problems
        first = "; ".join(f"{field}: {reason}" for field, reason in problems)
        super().__init__(f"{method} refuses this config: {first}")


class LiveMoved(RequestError):
    """A promotion named the version it replaces, and another one is live."""

    def __init__(self, expected: int, found: int) -> None:
        self.expected = expected
        self.found = found
        super().__init__(f"version {found} is live, not version {expected}; nothing was changed")


class StartError(AppError):
    """Root of what must keep the process from starting."""


class SettingsInvalid(StartError):
    """An environment variable holds something it may not; ``problems`` is (name, reason) pairs."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in problems))


class DeviceUnavailable(StartError):
    """The device that the encoder should run on is not there."""

    def __init__(self, device: str, reason: str) -> None:
        self.device = device
        self.reason = reason
        super().__init__(f"EMEND_DEVICE: {device!r} cannot be used: {reason}")


class EncoderLost(StartError):
    """The thread that serves the encoder ended by a failure that has no name; the log has it."""

    def __init__(self) -> None:
        super().__init__("the encoder's thread ended unexpectedly; the log says why")


class PredictionLogLost(StartError):
    """The thread that keeps predictions ended by a failure that has no name; the log has it."""

    def __init__(self) -> None:
        super().__init__("the thread that keeps predictions ended unexpectedly; the log says why")


class AnswersLost(StartError):
    """The thread that answers questions ended by a failure that has no name; the log has it."""

    def __init__(self) -> None:
        super().__init__("the thread that answers questions ended unexpectedly; the log says why")


class VlmLost(StartError):
    """The vision-language model was not loaded by a failure that has no name; the log has it."""

    def __init__(self) -> None:
        super().__init__("loading the vision-language model failed unexpectedly; the log says why")
