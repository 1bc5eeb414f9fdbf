"""Clients that ask: what is this, what became of mine, what is live; and one that rolls back.

What an answer says is held at once against what this client knows already.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.caller import Caller, Patience, Reply
from chaos.ledger import Ledger, Lie, Promoted, SeenJob
from chaos.pictures import LABEL_SET, Picture

CLASSIFY_EVERY_SECONDS = 0.1
READ_EVERY_SECONDS = 0.1
ROLL_BACK_EVERY_SECONDS = 20.0
BACK_AFTER_SECONDS = 4.0
LISTINGS = (
    "/corrections",
    "/edit-jobs",
    "/adapters",
    "/promotions",
    "/label-sets",
    "/health/live",
    "/health/ready",
    "/metrics",
)
OK = frozenset({200})


@dataclass
class Asker:
    """Classifies one picture after another at one API."""

    caller: Caller
    ledger: Ledger
    api: str
    pictures: Sequence[Picture]
    rng: random.Random
    calm: Patience

    def run(self) -> None:
        while self.calm.rest(CLASSIFY_EVERY_SECONDS):
            one = self.rng.choice(self.pictures)
            reply = self.caller.call(
                self.api,
                "POST",
                "/classify",
                question="live",
                files=[("image", ("0.png", one.data))],
                data={"label_set": LABEL_SET, "top_k": "1"},
            )
            if reply.status != 200:
                continue
            self.ledger.note_encoder(reply.body["adapter"], reply.body["encoder_digest"])
            if reply.version != reply.body["adapter"]:
                told = f"{self.api} answers as {reply.body['adapter']}, says {reply.version}"
                self.ledger.note(Lie(told, reply.at))


@dataclass
class Reader:
    """Reads listings, and what it knows to exist."""

    caller: Caller
    ledger: Ledger
    apis: Sequence[str]
    rng: random.Random
    calm: Patience

    def run(self) -> None:
        looks = (self._listing, self._correction, self._job, self._live)
        while self.calm.rest(READ_EVERY_SECONDS):
            self.rng.choice(looks)()

    def _get(self, path: str, expected: frozenset[int] = OK) -> Reply:
        return self.caller.call(self.rng.choice(self.apis), "GET", path, expected=expected)

    def _listing(self) -> None:
        reply = self._get(self.rng.choice(LISTINGS))
        for row in reply.body.get("adapters", ()):
            self.ledger.note_digest(row["version"], row["digest"])
        for row in reply.body.get("edit_jobs", ()):
            self._note_job(row, reply.at)
        if reply.status == 200 and "encoder_digest" in reply.body:
            self.ledger.note_encoder(reply.body["live"], reply.body["encoder_digest"])

    def _correction(self) -> None:
        """What was answered 202 is found ever after: a 404 is an answer that nobody expects."""
        known = list(self.ledger.accepted())
        if known:
            self._get(f"/corrections/{self.rng.choice(known)}")

    def _job(self) -> None:
        seen = self.ledger.jobs
        if seen:
            reply = self._get(f"/edit-jobs/{self.rng.choice(seen).id}")
            if reply.status == 200:
                self._note_job(reply.body, reply.at)

    def _note_job(self, row: dict[str, object], at: float) -> None:
        adapter = row["adapter"]
        version = adapter if isinstance(adapter, int) else None
        self.ledger.note(SeenJob(str(row["id"]), str(row["status"]), version, at))

    def _live(self) -> None:
        reply = self._get("/adapters/live")
        if reply.status == 200:
            self.ledger.note_digest(reply.body["version"], reply.body["digest"])


@dataclass
class Promoter:
    """Goes back to an earlier version now and then, and to the newest good one soon after."""

    caller: Caller
    ledger: Ledger
    apis: Sequence[str]
    rng: random.Random
    calm: Patience
    every: float = ROLL_BACK_EVERY_SECONDS

    def run(self) -> None:
        while self.calm.rest(self.rng.uniform(0.5, 1.5) * self.every):
            versions = self._good_versions()
            if len(versions) < 2:
                continue
            self._promote(self.rng.choice(versions[1:]), "an operator goes back")
            if not self.calm.rest(BACK_AFTER_SECONDS):
                return
            self._promote((self._good_versions() or versions)[0], "an operator goes on")

    def _good_versions(self) -> list[int]:
        """Newest first; those that the gate let pass, and the base."""
        reply = self.caller.call(self.rng.choice(self.apis), "GET", "/adapters")
        rows = reply.body.get("adapters", ())
        return [row["version"] for row in rows if (row["report"] or {}).get("verdict") != "refused"]

    def _promote(self, version: int, reason: str) -> None:
        api = self.rng.choice(self.apis)
        reply = self.caller.call(
            api,
            "POST",
            "/promotions",
            expected=frozenset({201, 409}),
            json={"version": version, "reason": reason},
        )
        if reply.status != 201:
            return
        made = Promoted(reply.body["id"], version, time.time())
        self.ledger.note(made)
        self._is_told(made)

    def _is_told(self, made: Promoted) -> None:
        """Every API tells of it from now on, and of its version as live unless another followed."""
        for api in self.apis:
            live = self.caller.call(api, "GET", "/adapters/live")
            reply = self.caller.call(api, "GET", "/promotions")
            rows = {row["id"]: row for row in reply.body.get("promotions", ())}
            if live.status != 200 or reply.status != 200:
                continue
            found = rows.get(made.id)
            if found is None or found["version"] != made.version:
                told = f"{api} does not tell of promotion {made.id} of version {made.version}"
                self.ledger.note(Lie(told, reply.at))
            elif max(rows) == made.id and live.body["version"] != made.version:
                told = f"{api} has version {live.body['version']} live after promotion {made.id}"
                self.ledger.note(Lie(told, live.at))
