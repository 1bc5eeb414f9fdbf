"""Pictures of TSI's captions by an image model: ``python -m benchmark.datasets.generate_dalle``.

Prompts are the paper's (arXiv 2407.16526). Its DALL·E models are retired, so what another model
draws is not the paper's set; any server of the same interface can be asked (`--base-url`). What is
there already is not drawn again; a picture appears whole or not at all.
"""

from __future__ import annotations

import argparse
import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import openai

from benchmark.datasets.dalle import PROMPT, folder_of
from benchmark.datasets.missing import DataSetError, PhotoUnreadable
from benchmark.datasets.photos import decoded, write_photo
from benchmark.datasets.tsi import CAPTIONS

MODEL = "gpt-image-2"
REFUSALS = frozenset({"content_policy_violation", "moderation_blocked"})
"""Error codes of prompts, or of finished pictures, that the server's owner does not allow."""


def missing(out: Path, per_class: int) -> Iterator[tuple[str, Path]]:
    """(caption, file) of each picture that is not there yet: one of each caption, then the next."""
    for number in range(per_class):
        for caption in CAPTIONS:
            path = out / folder_of(caption) / f"{number:04}.png"
            if not path.exists():
                yield caption, path


def generate(
    client: openai.OpenAI, out: Path, *, per_class: int, model: str, size: str
) -> list[Path]:
    """Draw what is missing, a request a picture; returns the files of those that were refused.

    Raises openai.OpenAIError (no right key, too many requests in spite of the client's retries, no
    connection, ...), PhotoUnreadable (the answer is no picture) and OSError.
    """
    wanted = list(missing(out, per_class))
    refused = []
    for number, (caption, path) in enumerate(wanted, start=1):
        try:
            picture = draw(client, PROMPT.format(caption), model=model, size=size)
        except openai.BadRequestError as refusal:
            if refusal.code not in REFUSALS:
                raise
            refused.append(path)
            print(f"{number} of {len(wanted)}: refused, {caption}: {refusal.message}", flush=True)
            continue
        write_photo(decoded(path.name, picture), path)
        print(f"{number} of {len(wanted)}: {path}", flush=True)
    return refused


def draw(client: openai.OpenAI, prompt: str, *, model: str, size: str) -> bytes:
    """One picture, in the server's format. Raises openai.OpenAIError, PhotoUnreadable."""
    # DALL·E models answer with an address unless told otherwise; newer ones know no such setting.
    in_answer: Literal["b64_json"] | openai.Omit
    in_answer = "b64_json" if model.startswith("dall-e") else openai.omit
    answer = client.images.generate(
        prompt=prompt, model=model, n=1, size=size, response_format=in_answer
    )
    if not answer.data or answer.data[0].b64_json is None:
        raise PhotoUnreadable(f"the answer to {prompt!r}", "there is no picture in it")
    try:
        return base64.b64decode(answer.data[0].b64_json, validate=True)
    except binascii.Error as error:
        raise PhotoUnreadable(f"the answer to {prompt!r}", str(error)) from error


def main() -> int:
    """Command line: see ``python -m benchmark.datasets.generate_dalle --help``."""
    options = _parser().parse_args()
    try:
        with openai.OpenAI(base_url=options.base_url, max_retries=options.retries) as client:
            refused = generate(
                client,
                options.out,
                per_class=options.per_class,
                model=options.model,
                size=options.size,
            )
    except (openai.OpenAIError, DataSetError, OSError) as problem:
        print(f"generation stopped: {problem}; run it again for what is missing")
        return 1
    if refused:
        print(f"{len(refused)} pictures were refused; run it again to ask for them once more")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m benchmark.datasets.generate_dalle"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the captions' folders")
    parser.add_argument("--per-class", type=int, required=True, help="pictures of each caption")
    parser.add_argument("--model", default=MODEL, help="image model (default %(default)s)")
    parser.add_argument("--size", default="1024x1024", help="width x height of a picture")
    parser.add_argument("--base-url", help="of another server of the same interface")
    parser.add_argument("--retries", type=int, default=5, help="of a request, where they may help")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
