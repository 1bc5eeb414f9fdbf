"""A few pictures of each label."""

from __future__ import annotations

from demo.photos import Pictures


def first_of_each(pictures: Pictures, a_label: int, labels: int = 10) -> Pictures:
    """The first ``a_label`` pictures of each of the first ``labels`` labels."""
    seen: dict[str, int] = {}
    chosen = Pictures([], [])
    wanted = list(dict.fromkeys(pictures.labels))[:labels]
    for image, label in zip(pictures.images, pictures.labels, strict=True):
        seen[label] = seen.get(label, 0) + 1
        if label in wanted and seen[label] <= a_label:
            chosen.images.append(image)
            chosen.labels.append(label)
    return chosen
