"""Clients that send corrections, each in a thread of its own.

They do what clients do: wait and send again what was answered 503 (or not at all), send the same
twice, contradict themselves, send what is no picture, replace, forget, and give up.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.caller import Caller, Patience, Reply
from chaos.ledger import Ledger, Sent
from chaos.pictures import LABEL_SET, NO_PICTURE, SAME_LABELS, Picture, another_label

LARGEST_BATCH = 6
WILES = ("again", "conflict", "broken", "replace", "forget", "once")
"""What is sent between batches of new corrections."""
ANSWERS = {
    "conflict": frozenset({409}),
    "broken": frozenset({422}),
}
ACCEPTED = frozenset({202})


@dataclass
class Sender:
    """`fresh` gives pictures that nobody has sent; `every` is seconds between two batches."""

    caller: Caller
    ledger: Ledger
    apis: Sequence[str]
    fresh: Iterator[Picture]
    rng: random.Random
    every: float
    calm: Patience
    """Ends when no new batch is to begin; what was begun is then sent until `patience` ends."""
    patience: Patience
    _mine: list[tuple[Picture, ...]] = field(default_factory=list)
    _ids: list[tuple[str, Picture]] = field(default_factory=list)

    def run(self) -> None:
        while self.calm.rest(self.rng.uniform(0.5, 1.5) * self.every):
            wile = self.rng.choice(WILES) if self._mine and self.rng.random() < 0.4 else "new"
            getattr(self, f"_{wile}")()

    def _new(self) -> None:
        batch = self._some()
        if self._send("new", batch) == 202:
            self._mine.append(batch)

    def _once(self) -> None:
        self._send("once", self._some(), tries=1)

    def _again(self) -> None:
        self._send("again", self.rng.choice(self._mine))

    def _conflict(self) -> None:
        """One picture that is known by another label, among new ones: refused whole."""
        known = self.rng.choice(self._mine)[0]
        batch = (*self._some(2), known)
        labels = (*(one.label for one in batch[:-1]), another_label(known.label))
        self._send("conflict", batch, labels=labels)

    def _broken(self) -> None:
        """New pictures and something that is none: refused whole."""
        self._send("broken", self._some(2), extra=(NO_PICTURE,))

    def _replace(self) -> None:
        self._send("replace", self.rng.choice(self._mine)[:1], label_set=SAME_LABELS, replace=True)

    def _forget(self) -> None:
        if not self._ids:
            return
        correction, gone = self._ids.pop(self.rng.randrange(len(self._ids)))
        # Its picture is as good as new from now on: another label would be no contradiction.
        self._mine = [batch for batch in self._mine if gone not in batch]
        self.ledger.note_forgetting(correction)
        reply = None
        while reply is None or (reply.passes and self.patience.rest(reply.retry_after)):
            api = self.rng.choice(self.apis)
            path = f"/corrections/{correction}"
            reply = self.caller.call(api, "DELETE", path, expected=frozenset({204}))

    def _some(self, most: int = LARGEST_BATCH) -> tuple[Picture, ...]:
        return tuple(next(self.fresh) for _ in range(self.rng.randint(1, most)))

    def _send(
        self,
        kind: str,
        batch: Sequence[Picture],
        *,
        labels: Sequence[str] | None = None,
        extra: Sequence[bytes] = (),
        label_set: str = LABEL_SET,
        replace: bool = False,
        tries: int | None = None,
    ) -> int | None:
        labels = tuple(labels or (one.label for one in batch))
        labels += labels[:1] * len(extra)
        images = [*(one.data for one in batch), *extra]
        content: dict[str, Any] = {
            "files": [("image", (f"{row}.png", data)) for row, data in enumerate(images)],
            "data": {
                "label": list(labels),
                "label_set": label_set,
                "replace": str(replace).lower(),
            },
        }
        reply, unclear = self._until_answered(kind, content, tries)
        receipts = reply.body.get("corrections", []) if reply.status == 202 else []
        self.ledger.note(
            Sent(
                kind=kind,
                images=tuple(hashlib.sha256(data).hexdigest() for data in images),
                labels=labels,
                status=reply.status,
                at=time.time(),
                unclear=unclear,
                ids=tuple(one["id"] for one in receipts),
            )
        )
        if kind == "new":
            # Another number of receipts is for the audit to find.
            self._ids += zip((one["id"] for one in receipts), batch, strict=False)
        return reply.status

    def _until_answered(
        self, kind: str, content: dict[str, Any], tries: int | None
    ) -> tuple[Reply, bool]:
        made, unclear = 0, False
        while True:
            made += 1
            reply = self.caller.call(
                self.rng.choice(self.apis),
                "POST",
                "/corrections",
                expected=ANSWERS.get(kind, ACCEPTED),
                **content,
            )
            if not reply.passes or made == tries or not self.patience.rest(reply.retry_after):
                return reply, unclear
            unclear = unclear or reply.status in (None, 503)
