"""The two small VLMs that this recipe makes: the bundled one, and one over the lab's base.

The bundled one's numbers stand in its model card. The lab's, after about 430 steps in 24 minutes on
a shared core (tokens took 15 more): of photos held out of training 90.0 % of five options, 66.5 %
of yes/no questions, of held-out signs of the `pretrain/` split 82.3 and 76.6 %; blanked out
21.6, 49.5, 20.8 and 50.0 %. It reads the class token, as its tower's features do; that was not
compared with patches alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recipes.bundled_encoder.photos import read_class_names
from recipes.small_vlm.pictures import DIGITS, Picture, digits, photos, sign_names, signs
from recipes.small_vlm.questions import Questions
from recipes.small_vlm.vocabulary import common_words

_DIGITS_EACH = 200
_SIGN_COPIES = 11


@dataclass(frozen=True)
class Use:
    """What one small VLM sees and learns beside the everyday photos."""

    signs: bool
    """traffic signs beside the photos; drawn digits otherwise"""
    photos_per_class: int | None
    """how many of each class to train on; all without"""
    a_step: tuple[int, int]
    """everyday photos and other pictures in every step"""
    class_token: bool
    """is the tower's class token read, too? (chosen on held-out pictures)"""

    def photos(self, lab: Path, seed: int) -> Iterator[Picture]:
        """The everyday photos."""
        return photos(lab / "pretrain.zip", per_class=self.photos_per_class, seed=seed)

    def others(self, lab: Path, seed: int) -> Iterator[Picture]:
        """The signs or digits."""
        if self.signs:
            return signs(lab, copies=_SIGN_COPIES, seed=seed)
        return digits(each=_DIGITS_EACH, seed=seed)

    def other_names(self, lab: Path) -> tuple[str, ...]:
        """What the other pictures show."""
        return tuple(sign_names(lab).values()) if self.signs else DIGITS

    def questions(self, lab: Path) -> Questions:
        """Questions about all of it."""
        others = self.other_names(lab)
        return Questions(
            names=(*thing_names(lab), *others),
            signs=frozenset(others if self.signs else ()),
            words=common_words(),
        )


def thing_names(lab: Path) -> tuple[str, ...]:
    """The hundred everyday things."""
    return tuple(read_class_names(lab / "pretrain.zip").values())


BUNDLED = Use(signs=False, photos_per_class=None, a_step=(30, 2), class_token=False)
LAB = Use(signs=True, photos_per_class=110, a_step=(22, 10), class_token=True)
