"""One storm: traffic over a stack, faults one after another, then calm, and the audit."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import psycopg

from chaos.audit import Violation, audit
from chaos.caller import GIVE_UP_SECONDS, Caller, Patience
from chaos.evidence import Evidence, gather
from chaos.faults import Faults, Injected
from chaos.ledger import Ledger
from chaos.lookout import Lookout, count_unended, looking
from chaos.manners import answers_are_documented, answers_are_in_time, versions_are_live
from chaos.messages import Duplicator
from chaos.pictures import (
    CONTROL_SET,
    LABEL_SET,
    LABELS,
    SAME_LABELS,
    Picture,
    chessboard,
    picture,
)
from chaos.proof import (
    clients_lasted,
    corrections_flowed,
    faults_were_injected,
    messages_came_twice,
    services_come_back,
    services_live,
)
from chaos.readers import Asker, Promoter, Reader
from chaos.senders import Sender
from chaos.stack import Death, Stack, Window
from client import EmendClient
from servers.waiting import wait_until

READY_SECONDS = 120.0
BETWEEN_SECONDS = 3.0
DRAIN_SECONDS = 150.0
LAST_SENDING_SECONDS = 40.0
POOL = 3000
PROBES = 60
RETRIES = 3
MOST_SETTLING = 4


@dataclass(frozen=True)
class Plan:
    """`corrections` at least are accepted; `every` is seconds between two batches of a sender."""

    seed: int
    corrections: int
    faults: Sequence[tuple[str, ...]]
    senders: int = 4
    every: float = 6.0
    between: float = BETWEEN_SECONDS


@dataclass
class Outcome:
    """Everything that a report is made of."""

    ledger: Ledger
    evidence: Evidence
    violations: list[Violation]
    injected: list[Injected]
    messages: int
    """Put into the queue by the stack, as far as the broker has counted them."""
    duplicated: int
    """Of those, sent once more."""
    windows: list[Window]
    deaths: Sequence[Death]
    first_seen: dict[int, float]
    settled: list[str] = field(default_factory=list)
    """Statuses of the jobs that tried again, at the end, what had come to nothing."""


class Storm:
    """`say` hears in a line what is going on."""

    def __init__(self, stack: Stack, plan: Plan, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._plan = plan
        self._say = say
        self._rng = random.Random(plan.seed)
        self._probes = [picture(plan.seed, number) for number in range(PROBES)]
        self._ledger = Ledger()
        self._caller = Caller(stack, self._ledger)
        self._calm, self._patience = Patience(), Patience()
        self._faults = Faults(stack, random.Random(plan.seed + 1), self._ledger.answers)
        self._lookout = Lookout(stack.database_url)
        self._duplicator = Duplicator(stack.broker_url)

    def run(self) -> Outcome:
        """Raises TimeoutError where the stack does not get ready, DatabaseUnavailable and
        StorageUnavailable where it cannot be audited."""
        pool = self._prepare()
        self._lookout.start()
        self._duplicator.start()
        threads = self._traffic(pool)
        for thread in threads:
            thread.start()
        try:
            self._blow()
            self._reach_the_number()
            gone = [thread.name for thread in threads if not thread.is_alive()]
            self._calm.end()
            _join(threads, LAST_SENDING_SECONDS)
            self._end(threads)
            return self._take_stock(gone)
        finally:
            self._end(threads)
            self._duplicator.stop()
            self._lookout.stop()
            self._caller.close()

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        """No client begins another request."""
        self._patience.end()
        self._calm.end()
        _join(threads, GIVE_UP_SECONDS + 1)

    def _prepare(self) -> list[Picture]:
        """Label sets, a control set, and pictures of labels that the untouched encoder never gives.

        Only probes are shown to it: what it has seen lies in the store, where a full disk would
        not be felt.
        """
        for api in self._stack.apis:
            with EmendClient(self._stack.url(api)) as service:
                service.wait_ready(seconds=READY_SECONDS)
        with EmendClient(self._stack.url(self._stack.apis[0])) as service:
            for name in (LABEL_SET, SAME_LABELS):
                service.put_label_set(name, LABELS)
            service.put_control_set(CONTROL_SET, LABEL_SET, [chessboard()], budget=100)
            images = [one.data for one in self._probes]
            given = set(service.answers(images, label_set=LABEL_SET, adapter=0))
        pool = (picture(self._plan.seed, PROBES + number) for number in range(POOL))
        return [one for one in pool if one.label not in given]

    def _traffic(self, pool: Sequence[Picture]) -> list[threading.Thread]:
        apis, seed = self._stack.apis, self._plan.seed
        common = (self._caller, self._ledger)
        shares = self._plan.senders
        clients: list[Sender | Asker | Reader | Promoter] = [
            Sender(
                *common,
                apis,
                _endless(pool, number, shares),
                random.Random(f"sender {seed} {number}"),
                self._plan.every,
                self._calm,
                self._patience,
            )
            for number in range(shares)
        ]
        for api in apis:
            rng = random.Random(f"{api} {seed}")
            clients.append(Asker(*common, api, self._probes, rng, self._calm))
        clients.append(Reader(*common, apis, random.Random(f"reader {seed}"), self._calm))
        clients.append(Promoter(*common, apis, random.Random(f"promoter {seed}"), self._calm))
        return [
            threading.Thread(target=client.run, name=type(client).__name__, daemon=True)
            for client in clients
        ]

    def _blow(self) -> None:
        for number, names in enumerate(self._plan.faults, start=1):
            if not self._calm.rest(self._plan.between):
                return
            self._inject(names, f"{number}/{len(self._plan.faults)}")

    def _inject(self, names: tuple[str, ...], number: str) -> None:
        """Again where there was no chance to: a job may end too soon."""
        for _ in range(RETRIES):
            self._faults.inject(*names)
            latest = self._faults.injected[-len(names) :]
            missed = tuple(one.kind for one in latest if not one.done)
            accepted = self._ledger.count_accepted()
            self._say(
                f"{number:>7}  {accepted:4} corrections  {' + '.join(names)}"
                + (f"  (no chance: {', '.join(missed)})" if missed else "")
            )
            if not missed or not self._calm.rest(self._plan.between):
                return
            names = missed

    def _reach_the_number(self) -> None:
        """Bounded, as the draining."""
        try:
            wait_until(
                lambda: self._ledger.count_accepted() >= self._plan.corrections,
                seconds=DRAIN_SECONDS,
                what=f"{self._plan.corrections} accepted corrections",
            )
        except TimeoutError as late:
            self._say(str(late))

    def _take_stock(self, gone: Sequence[str]) -> Outcome:
        """The audit, once nothing is under way; what came to nothing is tried once more before."""
        self._say("calm: waiting until no job is under way")
        self._drain()
        settled = list(self._settle())
        accepted = list(self._ledger.accepted())
        evidence = gather(self._stack, self._caller, accepted)
        windows = self._stack.windows()
        answers = list(self._ledger.answers)
        violations = audit(self._ledger, evidence)
        violations += answers_are_documented(answers, windows)
        violations += answers_are_in_time(answers, windows)
        violations += versions_are_live(
            answers, evidence.promotions, self._lookout.first_seen, windows
        )
        deaths = list(self._stack.deaths)
        violations += faults_were_injected(self._plan.faults, self._faults.injected)
        violations += messages_came_twice(self._duplicator.duplicated, self._duplicator.counted)
        violations += corrections_flowed(accepted, self._plan.corrections, evidence)
        violations += clients_lasted(gone)
        violations += services_live(deaths)
        violations += services_come_back(
            (*self._stack.apis, *self._stack.workers), deaths, windows, now=time.time()
        )
        return Outcome(
            ledger=self._ledger,
            evidence=evidence,
            violations=violations,
            injected=self._faults.injected,
            messages=self._duplicator.counted,
            duplicated=self._duplicator.duplicated,
            windows=windows,
            deaths=deaths,
            first_seen=dict(self._lookout.first_seen),
            settled=settled,
        )

    def _drain(self) -> None:
        """Bounded: what is still under way after that is found by the audit."""
        try:
            wait_until(self._empty, seconds=DRAIN_SECONDS, what="the queue to be empty")
        except TimeoutError as late:
            self._say(str(late))

    def _empty(self) -> bool:
        try:
            with looking(self._stack.database_url) as connection:
                return count_unended(connection) == 0
        except psycopg.OperationalError:
            return False  # it still comes back from the last fault

    def _settle(self) -> Iterator[str]:
        """An operator's `POST /edit-jobs` after a bad night: everything that came to nothing."""
        api = self._stack.apis[0]
        for _ in range(MOST_SETTLING):
            reply = self._caller.call(api, "POST", "/edit-jobs", expected=frozenset({202, 409}))
            if reply.status != 202:
                return
            self._drain()
            job = self._caller.call(api, "GET", f"/edit-jobs/{reply.body['id']}")
            yield str(job.body.get("status"))
            if job.body.get("status") == "succeeded":
                return


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    """So long for all of them together."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(timeout=max(0.0, deadline - time.monotonic()))


def _endless(pool: Sequence[Picture], share: int, shares: int) -> Iterator[Picture]:
    """One of so many shares of the pool. Raises RuntimeError when it has run out."""
    yield from pool[share::shares]
    raise RuntimeError(f"more than {len(pool) // shares} pictures were sent by one client")
