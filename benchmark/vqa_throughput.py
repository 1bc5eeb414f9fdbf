"""Questions a second: over HTTP, many clients at once, against the same model called in a process.

`make bench-vqa-throughput`. Both have the same photos, questions, options, torch threads and batch
size, and turns one after another, so that a busy machine slows both. In the process everything that
a request needs is done too (decoding, scaling, tower, prompt, options), in full batches; over HTTP
the clients are processes of their own, on the same cores, that keep their connections.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import torch
from PIL import Image

from benchmark.latency import percentiles
from benchmark.record import commit_of
from client import EmendClient, local_service
from client.local_service import environment
from encoder.clip import Encoder, load_encoder
from encoder.images import decode_image
from encoder.vlm.answering import score_options
from encoder.vlm.load import load_vlm
from encoder.vlm.model import VisionLanguageModel

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmark" / "results" / "vqa-throughput.json"
QUESTION = "What is this?"
OPTIONS = ("cup", "cat", "rocket", "bridge", "lemon")
PHOTOS = 16
SIDE = 256  # pixels of a photo as it is sent
WARM_UP_SECONDS = 3.0
LIMIT = 10**8  # bytes and pixels; nothing here is large


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    encoder: str
    vlm: str
    threads: int
    batch: int
    connections: int
    processes: int
    seconds: float  # of each turn
    rounds: int


@cache
def _model(plan: Plan) -> tuple[Encoder, VisionLanguageModel]:
    torch.set_num_threads(plan.threads)
    encoder = load_encoder(plan.encoder)
    return encoder, load_vlm(plan.vlm, encoder)


def answers(plan: Plan, photos: Sequence[bytes]) -> list[str]:
    """The likeliest option for each photo, all in one batch."""
    encoder, vlm = _model(plan)
    images = [decode_image(each, max_bytes=LIMIT, max_pixels=LIMIT) for each in photos]
    pixels = torch.stack([vlm.pixels(encoder, image) for image in images])
    prompts = [vlm.question(QUESTION, tokens) for tokens in vlm.image_tokens(encoder, pixels)]
    found = score_options(vlm, prompts, [OPTIONS] * len(photos))
    return [max(scores, key=lambda each: each.log_likelihood).option for scores in found]


def in_process(plan: Plan, photos: Sequence[bytes], seconds: float) -> tuple[float, float]:
    """Questions a second and CPU seconds a question, in full batches."""
    batch = [photos[place % len(photos)] for place in range(plan.batch)]
    begun, cpu, answered = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < seconds:
        answered += len(answers(plan, batch))
    used = time.process_time() - cpu
    return answered / (time.perf_counter() - begun), used / answered


@dataclass(frozen=True)
class Heard:
    """What one client process was answered within its time."""

    answers: dict[int, str]  # by photo
    seconds: list[float]  # of each answer
    refused: int = 0  # for the want of time: asked again


def ask(url: str, photos: Sequence[bytes], connections: int, seconds: float) -> Heard:
    """Keeps asking over so many connections at once; run in a process of its own."""
    bodies = [_body(photo) for photo in photos]
    until = time.monotonic() + seconds

    def keep_asking(first: int) -> Heard:
        answered: dict[int, str] = {}
        times: list[float] = []
        refused = 0
        place = urlsplit(url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        photo = first
        while time.monotonic() < until:
            photo = (photo + 1) % len(bodies)
            kind, body = bodies[photo]
            begun = time.perf_counter()
            connection.request("POST", "/vqa", body, {"Content-Type": kind})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 503:
                refused += 1
                continue
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {content[:300]!r}")
            times.append(time.perf_counter() - begun)
            answered[photo] = json.loads(content)["answer"]
        connection.close()
        return Heard(answered, times, refused)

    with ThreadPoolExecutor(connections) as pool:
        return _together(list(pool.map(keep_asking, range(connections))))


def _together(heard: Sequence[Heard]) -> Heard:
    answers = {photo: answer for each in heard for photo, answer in each.answers.items()}
    seconds = [one for each in heard for one in each.seconds]
    return Heard(answers, seconds, sum(each.refused for each in heard))


def over_http(
    plan: Plan, pool: ProcessPoolExecutor, url: str, photos: Sequence[bytes], seconds: float
) -> tuple[float, Heard]:
    """Questions a second, and what was answered."""
    each = plan.connections // plan.processes
    asking = [pool.submit(ask, url, photos, each, seconds) for _ in range(plan.processes)]
    heard = _together([one.result() for one in asking])
    return len(heard.seconds) / seconds, heard


def measure(plan: Plan) -> dict[str, Any]:
    """The report."""
    photos = _photos()
    settings = {
        "EMEND_ENCODER": plan.encoder,
        "EMEND_VLM": plan.vlm,
        "EMEND_VLM_BATCH": str(plan.batch),
        "EMEND_THREADS": str(plan.threads),
        "EMEND_KEEP_PREDICTIONS": "0",
    }
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        local_service(_migrated(Path(folder)), settings, program="app") as service,
        ProcessPoolExecutor(plan.processes, mp_context=spawn) as pool,
        ProcessPoolExecutor(1, mp_context=spawn) as inside,
    ):
        expected = inside.submit(answers, plan, photos).result()
        inside.submit(in_process, plan, photos, WARM_UP_SECONDS).result()
        url = str(service.http.base_url)
        over_http(plan, pool, url, photos, WARM_UP_SECONDS)
        rates: dict[str, list[float]] = {"in_process": [], "http": []}
        times: list[float] = []
        refused, agreeing = 0, True
        cpu: dict[str, list[float]] = {"in_process": [], "http": []}
        before = _batches(service)
        for number in range(plan.rounds):
            turn = inside.submit(in_process, plan, photos, plan.seconds)
            for found, value in zip((rates, cpu), turn.result(), strict=True):
                found["in_process"].append(value)
            used = _counted(service, "process_cpu_seconds_total")
            rate, heard = over_http(plan, pool, url, photos, plan.seconds)
            rates["http"].append(rate)
            used = _counted(service, "process_cpu_seconds_total") - used
            cpu["http"].append(used / max(1, len(heard.seconds)))
            times += heard.seconds
            refused += heard.refused
            agreeing &= all(expected[photo] == answer for photo, answer in heard.answers.items())
            print(f"round {number + 1}: {rates['in_process'][-1]:.1f}/s, HTTP {rate:.1f}/s")
        batches, questions = (a - b for a, b in zip(_batches(service), before, strict=True))
    ratios = [a / b for a, b in zip(rates["http"], rates["in_process"], strict=True)]
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "plan": vars(plan),
        "questions_a_second": {name: [round(r, 2) for r in all_] for name, all_ in rates.items()},
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": round(median(ratios), 3),
        # Of the server's process against ours: what other work on the machine changes least.
        "cpu_ms_a_question": {
            name: [round(1000 * c, 2) for c in all_] for name, all_ in cpu.items()
        },
        "cpu_ratio": round(median(cpu["in_process"]) / median(cpu["http"]), 3),
        "load_average": os.getloadavg(),
        "questions_a_batch": round(questions / batches, 1),
        "answers_agree": agreeing,
        "refused": refused,
        "http": percentiles(times),
    }


def _photos() -> list[bytes]:
    """JPEG crops of three photographs that scikit-image ships."""
    from skimage import data

    shipped: list[Any] = [data.coffee, data.chelsea, data.astronaut]
    whole = [Image.fromarray(one()) for one in shipped]
    photos = []
    for number in range(PHOTOS):
        picture = whole[number % len(whole)]
        side = min(picture.size) - 8 * number
        crop = picture.crop((0, 0, side, side)).resize((SIDE, SIDE))
        file = BytesIO()
        crop.save(file, "JPEG", quality=90)
        photos.append(file.getvalue())
    return photos


def _body(photo: bytes) -> tuple[str, bytes]:
    """A question as multipart, and its media type."""
    edge = "----emend"
    fields = [("question", QUESTION), *(("option", option) for option in OPTIONS)]
    texts = "".join(
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields
    )
    head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="0"\r\n\r\n'
    body = texts.encode() + head.encode() + photo + f"\r\n--{edge}--\r\n".encode()
    return f"multipart/form-data; boundary={edge}", body


def _migrated(folder: Path) -> Path:
    """A data folder with an empty database in it."""
    command = [sys.executable, "-m", "app", "migrate"]
    subprocess.run(command, env=environment(os.environ, {"EMEND_DATA": str(folder)}), check=True)
    return folder


def _batches(service: EmendClient) -> tuple[float, float]:
    """How many batches there were, and questions in them."""
    name = "emend_vlm_batch_questions"
    return _counted(service, f"{name}_count"), _counted(service, f"{name}_sum")


def _counted(service: EmendClient, name: str) -> float:
    lines = service.http.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def main() -> None:
    """Measures, prints and keeps the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="bundled")
    parser.add_argument("--vlm", default="bundled")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--allow-dirty", action="store_true", help="of code not committed, too")
    # As the supervisor has it for its children, which inherit it here, before torch is loaded.
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    chosen = vars(parser.parse_args())
    result, allow_dirty = chosen.pop("result"), chosen.pop("allow_dirty")
    commit = commit_of(parser, result, allow_dirty=allow_dirty)
    report = {"commit": commit, **measure(Plan(**chosen))}
    print(json.dumps(report, indent=2))
    result.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
