"""The vision-language model in `encoder/bundled/vlm`, asked as it is served."""

import os
from pathlib import Path

import pytest
from PIL import Image
from skimage import data as skimage_data

from encoder.clip import Encoder, load_encoder
from encoder.vlm.answering import Question, Reply, answer_questions
from encoder.vlm.load import load_vlm
from encoder.vlm.model import VisionLanguageModel
from recipes.small_vlm.__main__ import SHIPPED, main, parse_options
from recipes.small_vlm.measurement import GREY
from recipes.small_vlm.pictures import DIGITS, digits

LAB = Path(os.environ.get("EMEND_LAB", "../shared/lab"))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("bundled")


@pytest.fixture(scope="module")
def vlm(encoder: Encoder) -> VisionLanguageModel:
    return load_vlm("bundled", encoder)


def ask(
    vlm: VisionLanguageModel, encoder: Encoder, image: Image.Image, question: str, *options: str
) -> Reply:
    seen = vlm.image_tokens(encoder, vlm.pixels(encoder, image)[None])[0]
    [reply] = answer_questions(vlm, [Question(question, seen, options)])
    return reply


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    """scikit-image's tabby, without the sofa around it."""
    picture = Image.fromarray(skimage_data.chelsea())
    side = picture.height
    return picture.crop((90, 0, 90 + side, side))


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 25e6


def test_it_tells_a_cat_from_other_things(
    vlm: VisionLanguageModel, encoder: Encoder, cat: Image.Image
) -> None:
    names = ("tabby cat", "school bus", "pizza", "lighthouse", "umbrella")
    assert ask(vlm, encoder, cat, "What is this?", *names).answer == "tabby cat"
    assert ask(vlm, encoder, cat, "Is this an animal?", "yes", "no").answer == "yes"
    assert ask(vlm, encoder, cat, "Is this a school bus?", "yes", "no").answer == "no"


def test_it_looks_at_the_image(
    vlm: VisionLanguageModel, encoder: Encoder, cat: Image.Image
) -> None:
    blank = Image.new("RGB", (64, 64), GREY)
    names = ("tabby cat", "school bus", "pizza", "lighthouse", "umbrella")
    seen, unseen = (ask(vlm, encoder, image, "What is this?", *names) for image in (cat, blank))
    assert seen.options[0].log_likelihood > unseen.options[0].log_likelihood + 1


def test_it_answers_freely_in_words(vlm: VisionLanguageModel, encoder: Encoder) -> None:
    cup = Image.fromarray(skimage_data.coffee())
    assert ask(vlm, encoder, cup, "What is this?").answer == "espresso"
    assert ask(vlm, encoder, cup, "Describe the picture.").answer.startswith("A photo of ")


def test_it_names_digits(vlm: VisionLanguageModel, encoder: Encoder) -> None:
    drawn = list(digits(each=4, seed=12345))  # another seed than in training
    answers = [ask(vlm, encoder, each.image, "What digit is this?").answer for each in drawn]
    assert set(answers) <= set(DIGITS)
    right = sum(answer == each.label for answer, each in zip(answers, drawn, strict=True))
    assert right >= 12, f"{right} of 40; four are chance"


def test_it_stands_over_the_bundled_encoder_in_every_precision() -> None:
    for precision in ("bf16", "fp16"):
        other = load_encoder("bundled", precision=precision)
        assert load_vlm("bundled", other).family == "llava"


@pytest.mark.skipif(
    not (LAB / "pretrain.zip").is_file(), reason=f"no pretrain.zip at {LAB} (set EMEND_LAB)"
)
def test_it_knows_photos_that_it_was_not_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--lab", str(LAB), "--stage", "measure", "--per-class", "3"]
    measured = main(options)
    seen, blank = measured.seen, measured.blank
    assert seen.options >= 75
    assert seen.yes_no >= 75
    assert seen.options >= blank.options + 40
    assert seen.yes_no >= blank.yes_no + 20
    assert "300 unseen photos" in capsys.readouterr().out


def test_the_cache_lies_outside_the_repository(tmp_path: Path) -> None:
    options = parse_options(["--lab", str(tmp_path)])
    assert options.out == SHIPPED
    assert SHIPPED.parents[2] not in [options.cache, *options.cache.parents]
    assert parse_options(["--lab", str(tmp_path), "--signs"]).out.parent == options.cache
