"""How much may be asked about at once.

Every label in every template is one prompt that the text tower reads, once: without a limit a small
request could occupy it for hours.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import FieldInvalid
from encoder.classifier import DEFAULT_TEMPLATES

LABELS_LIMIT = 25_000
TEMPLATES_LIMIT = 100
TEMPLATE_CHARACTERS = 500
PROMPTS_LIMIT = 200_000
TOP_K_LIMIT = 1_000


def check_size(labels: Sequence[str], templates: Sequence[str]) -> None:
    """Raises `FieldInvalid` for more than the limits; no templates counts as the default ones."""
    if len(labels) > LABELS_LIMIT:
        raise FieldInvalid("label", f"{len(labels)} labels; {LABELS_LIMIT} at most")
    if len(templates) > TEMPLATES_LIMIT:
        raise FieldInvalid("template", f"{len(templates)} templates; {TEMPLATES_LIMIT} at most")
    longest = max(map(len, templates), default=0)
    if longest > TEMPLATE_CHARACTERS:
        reason = f"{longest} characters; {TEMPLATE_CHARACTERS} at most"
        raise FieldInvalid("template", reason)
    each = len(templates) or len(DEFAULT_TEMPLATES)
    if len(labels) * each > PROMPTS_LIMIT:
        reason = f"{len(labels)} labels in {each} templates each; {PROMPTS_LIMIT} prompts at most"
        raise FieldInvalid("label", reason)


def check_top_k(top_k: int) -> None:
    """Raises `FieldInvalid` outside 1 to the limit; more than there are labels gives them all."""
    if not 1 <= top_k <= TOP_K_LIMIT:
        raise FieldInvalid("top_k", f"at least 1, at most {TOP_K_LIMIT}")
