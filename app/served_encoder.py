"""The encoder that answers: loads in the background, then follows the live promotion.

One thread a process. It loads the base encoder (so that the port opens at once), records it as
version 0 of an empty registry, makes the live version ready, and from then on looks at the
promotions every ``LOOK_EVERY`` seconds, which keeps every replica within a second of a promotion.
A swap builds the new encoder aside; requests under way keep the one they began with. Who waits for
a version to be built waits as long as that takes: store and database have limits of their own. A
version that cannot be built leaves the former one answering; so does a database that does not
answer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import torch
from sqlalchemy import Engine

from app.base_row import record_base
from app.deadline import uncounted
from app.errors import DeviceUnavailable, EncoderLost, NotReady, StartError
from app.metrics import Metrics
from app.problems import told
from app.settings import Settings
from app.standing import Standing
from app.version_files import VersionFiles
from encoder.clip import Encoder, load_encoder
from encoder.errors import EncoderError
from encoder.pool import BASE_VERSION, EncoderPool
from registry.adapters import get_adapter
from registry.artifacts import ArtifactStore
from registry.errors import (
    DatabaseError,
    DatabaseUnavailable,
    RegistryError,
    StorageUnavailable,
)
from registry.promotions import live_promotion
from registry.session import reading
from registry.tables import Promotion

logger = logging.getLogger(__name__)
LOOK_EVERY = 0.2
START_AGAIN = 0.5  # seconds, while database or store are away at the start
LOADING = "the encoder is being loaded"


class ServedEncoder:
    """Answers `at` once it is ready; until then raises `NotReady` with the reason."""

    def __init__(
        self, settings: Settings, engine: Engine, store: ArtifactStore, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._metrics = metrics
        self._pool: EncoderPool | None = None
        self._reason: str | None = LOADING
        self._standing = Standing(settings.ready_grace, metrics)
        self._stopping = threading.Event()
        self._swapping = threading.Lock()
        self._catching_up = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="served-encoder", daemon=True)
        self.on_failure: Callable[[Exception], None] = _log_failure

    def start(self) -> None:
        """Begins to load."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; a load under way is left to the end of the process."""
        self._stopping.set()
        self._thread.join(timeout=LOOK_EVERY * 5)

    @property
    def pool(self) -> EncoderPool:
        """The pool of merged encoders. Raises `NotReady`."""
        if self._pool is None:
            raise NotReady(self._reason or LOADING)
        return self._pool

    @property
    def base_bytes(self) -> int | None:
        """Size of the base encoder's weights in memory, or None while it is loaded."""
        return None if self._pool is None else self._pool.get(BASE_VERSION).parameter_bytes

    def live(self) -> tuple[int, Encoder]:
        """The live version and its encoder, as one. Raises `NotReady`."""
        pool = self.pool
        if self._reason is not None:
            raise NotReady(self._reason)
        return pool.live

    def ready(self) -> tuple[int, Encoder]:
        """As `live`, for who asks whether this replica may be sent requests.

        Raises `NotReady` (`ReplicaBehind` once the grace is over) and `DatabaseUnavailable`. Asks
        nobody: the thread that follows the promotions knows.
        """
        version, encoder = self.live()
        self._standing.check(version)
        return version, encoder

    @property
    def promoted(self) -> int:
        """The version that should be served, as far as this replica knows."""
        setback = self._standing.setback
        return self.pool.live[0] if setback is None else setback.version

    def at(self, version: int | None) -> tuple[int, Encoder]:
        """A version and its encoder; None means live. Raises `NotReady`, `AdapterMissing`."""
        if version is None:
            return self.live()
        self.prepare(version)
        return version, self.pool.get(version)

    def prepare(self, version: int) -> None:
        """Builds a version ahead of its promotion, so that the swap itself takes no time.

        Raises `NotReady`, `AdapterMissing`, or what keeps the version from being built.
        """
        pool = self.pool
        with reading(self._engine) as session:
            get_adapter(session, version)
        with uncounted():
            pool.prepare(version)

    def refresh(self) -> None:
        """Serves whatever promotion is the last one, from now on.

        Built before anything is held: nobody waits for a version but who asks for it.
        """
        self._build(self._last_promotion())
        with self._swapping:
            self._swap(self._last_promotion())

    def serve(self, promotion: Promotion) -> None:
        """Serves a promotion that was just made, or a later one."""
        try:
            self.refresh()
        except DatabaseError as outage:  # it was made all the same, and nothing later is known
            logger.warning("version %d is served without a look: %s", promotion.version, outage)
            with self._swapping:
                self._swap(promotion)

    def catch_up(self) -> None:
        """Serves the last promotion before its news leaves this process, so that a client who reads
        of it and asks again is answered by it. What cannot be built is the watcher's to report, and
        to try again."""
        if self._reason is not None:
            return
        try:
            if self._is_due(self._last_promotion()):
                # Not so any more for those who waited for the one who built.
                with uncounted(), self._catching_up:
                    if self._is_due(self._last_promotion()):
                        self.refresh()
        except (EncoderError, RegistryError) as error:
            logger.info("the last promotion is not served yet: %s", error)

    def _is_due(self, promotion: Promotion) -> bool:
        """Whether a promotion should be served, is not, and did not fail to be."""
        serves = promotion.version == self.pool.live[0]
        return not serves and not self._standing.failed_with(promotion)

    def _build(self, promotion: Promotion) -> None:
        try:
            with uncounted():
                self.pool.prepare(promotion.version)
        except (EncoderError, RegistryError) as error:
            self._fail(promotion, error)
            raise

    def _swap(self, promotion: Promotion) -> None:
        if promotion.version != self.pool.live[0] or self._reason is not None:
            try:
                with uncounted():
                    self.pool.swap_live(promotion.version)
            except (EncoderError, RegistryError) as error:
                self._fail(promotion, error)
                raise
            self._metrics.live_version.set(promotion.version)
            self._reason = None
            logger.info("version %d is live", promotion.version)
        self._standing.serves()

    def _fail(self, promotion: Promotion, error: Exception) -> None:
        self._standing.fail(promotion, error)
        if self._reason is not None:  # nothing was served yet, so there is nothing to go on with
            self._reason = f"version {promotion.version} cannot be served: {told(error)}"

    def _last_promotion(self) -> Promotion:
        with reading(self._engine) as session:
            return live_promotion(session)

    def _run(self) -> None:
        failure: Exception = EncoderLost()
        try:
            self._load()
            self._follow()
        except (EncoderError, RegistryError, StartError, OSError) as error:
            failure = error
        finally:
            if not self._stopping.is_set():
                reason = failure.strerror if isinstance(failure, OSError) else told(failure)
                self._reason = f"the encoder cannot be served: {reason or type(failure).__name__}"
                self.on_failure(failure)

    def _load(self) -> None:
        settings = self._settings
        check_device(settings.device)
        torch.set_num_threads(settings.torch_threads)
        base = load_encoder(
            settings.encoder,
            settings.pretrained,
            device=settings.device,
            precision=settings.precision,
        )
        while not self._recorded(base):
            if self._stopping.wait(START_AGAIN):
                return
        files = VersionFiles(self._engine, self._store, base.base_digest)
        self._pool = EncoderPool(base, files.links, self._settings.versions_ready)
        self._reason = "the live version is being made ready"

    def _recorded(self, base: Encoder) -> bool:
        """Whether the base could be recorded, or was there; if not, it is tried again."""
        try:
            record_base(self._engine, self._store, base)
        except (DatabaseUnavailable, StorageUnavailable) as outage:
            if self._reason == LOADING:
                logger.error("the base encoder is not recorded yet: %s", outage)
            self._reason = f"the base encoder is not recorded yet: {told(outage)}"
            return False
        return True

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
            except (EncoderError, RegistryError) as error:
                logger.debug("the last promotion is tried again: %s", error)
            self._stopping.wait(LOOK_EVERY)

    def _look(self) -> None:
        """Serves the last promotion where it is not served, unless it failed and has to rest."""
        self._standing.asks()
        try:
            promotion = self._last_promotion()
        except RegistryError as outage:
            self._standing.heard(outage)
            if self._reason is not None:
                self._reason = f"the live version is not known yet: {told(outage)}"
            raise
        self._standing.heard()
        behind = self._standing.setback is not None or self._reason is not None
        if promotion.version == self.pool.live[0] and not behind:
            return
        if self._standing.may_try(promotion):
            self.refresh()


def _log_failure(error: Exception) -> None:
    logger.error("the encoder cannot be served: %s", error)


def check_device(device: str) -> None:
    """Raises `DeviceUnavailable` unless tensors can be made there."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise DeviceUnavailable(device, reason) from error
