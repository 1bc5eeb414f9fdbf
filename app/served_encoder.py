"""The encoder that answers: loads in the background, then follows the live promotion.

One thread a process. It loads the base encoder (so that the port opens at once), records it as
version 0 of an empty registry, makes the live version ready, and from then on looks at the
promotions every ``LOOK_EVERY`` seconds, which keeps every replica within a second of a promotion.
A swap builds the new encoder aside; requests under way keep the one they began with. A version that
cannot be built leaves the former one answering.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import torch
from sqlalchemy import Engine

from app.errors import DeviceUnavailable, EncoderLost, NotReady, StartError
from app.metrics import Metrics
from app.settings import Settings
from app.version_files import VersionFiles
from encoder.adapter import Adapter, Provenance
from encoder.clip import Encoder, load_encoder
from encoder.errors import EncoderError
from encoder.pool import BASE_VERSION, EncoderPool
from registry.adapters import ensure_base, get_adapter
from registry.artifacts import ArtifactStore
from registry.errors import RegistryError
from registry.promotions import live_promotion
from registry.session import reading, transaction
from registry.tables import Promotion

logger = logging.getLogger(__name__)
LOOK_EVERY = 0.2
METHOD_OF_BASE = "none"
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
        self._unserved: str | None = None
        self._failed: int | None = None  # the promotion that could not be built when last tried
        self._stopping = threading.Event()
        self._swapping = threading.Lock()
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
        pool.prepare(version)

    def refresh(self) -> None:
        """Serves whatever promotion is the last one, from now on."""
        with self._swapping:
            promotion = self._last_promotion()
            if promotion.version != self.pool.live[0] or self._reason is not None:
                self._swap(promotion)
            self._failed = None
            self._complain(None)

    def catch_up(self) -> None:
        """Serves the last promotion before its news leaves this process, so that a client who reads
        of it and asks again is answered by it. What cannot be built is the watcher's to report, and
        to try again."""
        if self._reason is not None:
            return
        try:
            if self._is_due(self._last_promotion()):
                with self._swapping:
                    promotion = self._last_promotion()
                    if self._is_due(promotion):  # not so for those who waited for the one who built
                        self._swap(promotion)
        except (EncoderError, RegistryError) as error:
            logger.info("the last promotion is not served yet: %s", error)

    def _is_due(self, promotion: Promotion) -> bool:
        """Whether a promotion should be served, is not, and did not fail to be."""
        return promotion.version != self.pool.live[0] and promotion.id != self._failed

    def _swap(self, promotion: Promotion) -> None:
        try:
            self.pool.swap_live(promotion.version)
        except (EncoderError, RegistryError):
            self._failed = promotion.id
            raise
        self._metrics.live_version.set(promotion.version)
        self._reason = None
        logger.info("version %d is live", promotion.version)

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
                self._reason = f"the encoder cannot be served: {failure}"
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
        with transaction(self._engine) as session:
            ensure_base(
                session,
                self._store,
                name=base.name,
                pretrained=base.pretrained,
                base_digest=base.base_digest,
                empty_adapter=base_adapter(base),
                now=datetime.now(UTC),
            )
        files = VersionFiles(self._engine, self._store, base.base_digest)
        self._pool = EncoderPool(base, files.links, self._settings.versions_ready)
        self._reason = "the live version is being made ready"

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self.refresh()
            except (EncoderError, RegistryError) as error:
                self._complain(f"the live version cannot be served: {error}")
            self._stopping.wait(LOOK_EVERY)

    def _complain(self, unserved: str | None) -> None:
        """Says once why the live version cannot be served; None when it is."""
        if unserved is not None and unserved != self._unserved:
            logger.error("%s", unserved)
        self._unserved = unserved
        self._metrics.live_unserved.set(unserved is not None)
        if unserved is not None and self._reason is not None:
            self._reason = unserved


def _log_failure(error: Exception) -> None:
    logger.error("the encoder cannot be served: %s", error)


def base_adapter(base: Encoder) -> bytes:
    """The file of version 0: an adapter that changes nothing."""
    provenance = Provenance(
        method=METHOD_OF_BASE,
        config={},
        seed=0,
        parent=None,
        stacked_on="",
        base_name=base.name,
        base_pretrained=base.pretrained,
        base_digest=base.base_digest,
    )
    return Adapter({}, provenance).to_bytes()


def check_device(device: str) -> None:
    """Raises `DeviceUnavailable` unless tensors can be made there."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise DeviceUnavailable(device, reason) from error
