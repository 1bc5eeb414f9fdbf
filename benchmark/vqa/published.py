"""VSR, VizWiz VQA and Hateful Memes asked of a VLM through an encoder, edited or not.

    python -m benchmark.vqa.published vsr --data FOLDER --vlm FOLDER --encoder NAME [--adapter FILE]

The sets are read from the reader's own copies in their published layouts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmark.datasets.missing import SetMalformed, SetMissing
from benchmark.vqa.asking import Replies, Sheet, ask
from benchmark.vqa.hateful_memes import HATEFUL, load_hateful_memes
from benchmark.vqa.lab_sets import SIZE_LIMIT
from benchmark.vqa.questions import ChoiceQuestion, TooFewLabels
from benchmark.vqa.scoring import accuracy, auroc, open_answer_score
from benchmark.vqa.vizwiz import OpenQuestion, as_choices, load_vizwiz
from benchmark.vqa.vsr import load_vsr
from encoder.adapter import Adapter
from encoder.clip import Encoder, load_encoder
from encoder.errors import EncoderError
from encoder.images import decode_image
from encoder.vlm.answering import Question, answer_questions
from encoder.vlm.load import load_vlm
from encoder.vlm.model import VisionLanguageModel

_TOGETHER = 64  # questions whose images are in memory at once


def ask_vsr(
    vlm: VisionLanguageModel, encoder: Encoder, root: Path, *, split: str, cut: str
) -> dict[str, float]:
    """Percent right. Raises SetMissing, SetMalformed, EncoderError."""
    statements = load_vsr(root, cut=cut, split=split)
    questions = [each.question for each in statements]
    return {
        "questions": len(questions),
        "accuracy": _right(questions, _ask(vlm, encoder, questions)),
    }


def ask_hateful_memes(
    vlm: VisionLanguageModel, encoder: Encoder, root: Path, *, split: str
) -> dict[str, float]:
    """Percent right, and AUROC (percent) of the probability of "yes".

    Raises SetMissing, SetMalformed, EncoderError; ValueError for a split of one label only.
    """
    questions = load_hateful_memes(root, split)
    replies = _ask(vlm, encoder, questions)
    hateful = [each.answer == HATEFUL for each in questions]
    return {
        "questions": len(questions),
        "accuracy": _right(questions, replies),
        "auroc": 100 * auroc(replies.first, hateful),
    }


def ask_vizwiz(
    vlm: VisionLanguageModel, encoder: Encoder, root: Path, *, split: str, seed: int
) -> dict[str, float]:
    """The official score (percent) of free answers, and percent right of five options.

    Raises SetMissing, SetMalformed, TooFewLabels, EncoderError.
    """
    questions = load_vizwiz(root, split)
    scores = [
        open_answer_score(answer, each.answers)
        for each, answer in zip(questions, _free_answers(vlm, encoder, questions), strict=True)
    ]
    choices = as_choices(questions, seed=seed)
    return {
        "questions": len(questions),
        "score": 100 * sum(scores) / len(scores),
        "five_options": _right(choices, _ask(vlm, encoder, choices)),
    }


def _free_answers(
    vlm: VisionLanguageModel, encoder: Encoder, questions: Sequence[OpenQuestion]
) -> list[str]:
    found: list[str] = []
    for start in range(0, len(questions), _TOGETHER):
        chunk = questions[start : start + _TOGETHER]
        asked = []
        for each in chunk:
            image = decode_image(
                each.image.read_bytes(), max_bytes=SIZE_LIMIT, max_pixels=SIZE_LIMIT
            )
            [tokens] = vlm.image_tokens(encoder, vlm.pixels(encoder, image)[None])
            asked.append(Question(each.question, tokens))
        found += [reply.answer for reply in answer_questions(vlm, asked)]
    return found


def _ask(
    vlm: VisionLanguageModel, encoder: Encoder, questions: Sequence[ChoiceQuestion]
) -> Replies:
    replies = Replies([], [], [])
    for start in range(0, len(questions), _TOGETHER):
        some = ask(vlm, encoder, Sheet.of(questions[start : start + _TOGETHER], vlm, encoder))
        replies.chosen.extend(some.chosen)
        replies.chosen_by_mean.extend(some.chosen_by_mean)
        replies.first.extend(some.first)
    return replies


def _right(questions: Sequence[ChoiceQuestion], replies: Replies) -> float:
    return accuracy(replies.chosen, [each.answer for each in questions])


def main() -> int:
    """Print the scores as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.vqa.published", description=__doc__)
    parser.add_argument("set", choices=["vsr", "vizwiz", "hateful-memes"])
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--split", required=True, help="as the set names it")
    parser.add_argument("--cut", choices=["random", "zeroshot"], default="random", help="of VSR")
    parser.add_argument("--encoder", required=True, help="as EMEND_ENCODER")
    parser.add_argument("--pretrained", help="as EMEND_PRETRAINED")
    parser.add_argument("--adapter", type=Path, help="file of an edit of this encoder")
    parser.add_argument("--vlm", required=True, help="as EMEND_VLM")
    parser.add_argument("--seed", type=int, default=0, help="of VizWiz's options")
    told = parser.parse_args()
    asks: Mapping[str, Callable[[VisionLanguageModel, Encoder], dict[str, float]]] = {
        "vsr": lambda v, e: ask_vsr(v, e, told.data, split=told.split, cut=told.cut),
        "vizwiz": lambda v, e: ask_vizwiz(v, e, told.data, split=told.split, seed=told.seed),
        "hateful-memes": lambda v, e: ask_hateful_memes(v, e, told.data, split=told.split),
    }
    try:
        base = load_encoder(told.encoder, told.pretrained)
        vlm = load_vlm(told.vlm, base)
        links = [] if told.adapter is None else [Adapter.from_bytes(told.adapter.read_bytes())]
        print(json.dumps(asks[told.set](vlm, base.merged(links))))
    except (SetMissing, SetMalformed, TooFewLabels, EncoderError, OSError, ValueError) as problem:
        print(f"nothing was measured: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
