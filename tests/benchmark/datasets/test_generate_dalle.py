"""Pictures drawn by a server of OpenAI's interface, on this machine."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmark.datasets.dalle import folder_of, load_dalle
from benchmark.datasets.generate_dalle import main
from benchmark.datasets.tsi import CAPTIONS
from tests.support.images import photo_bytes

KEY = "a-key"


class ImageServer:
    """Answers every request with a picture, after the answers that are queued."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.queued: list[tuple[int, dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = outer.answer(self.path, self.headers["Authorization"], body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def answer(self, path: str, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        assert path == "/v1/images/generations"
        self.asked.append(body)
        if key != f"Bearer {KEY}":
            return failure(401, "Incorrect API key provided", "invalid_api_key")
        return self.queued.pop(0) if self.queued else picture(len(self.asked))

    def __enter__(self) -> ImageServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def picture(seed: int) -> tuple[int, dict[str, Any]]:
    data = base64.b64encode(photo_bytes(16, 16, seed=seed)).decode()
    return 200, {"created": 1, "data": [{"b64_json": data}]}


def failure(status: int, message: str, code: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": "error", "param": None, "code": code}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ImageServer() as running:
        yield running


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, server: ImageServer, tmp_path: Path) -> list[str]:
    """The arguments in force; a test may add to them."""
    arguments = ["generate", "--out", str(tmp_path), "--per-class", "1", "--base-url", server.url]
    monkeypatch.setattr("sys.argv", arguments)
    return arguments


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_each_caption_is_drawn_with_the_papers_prompt(
    command: list[str], server: ImageServer, tmp_path: Path
) -> None:
    command[4] = "2"
    assert main() == 0
    assert [asked["prompt"] for asked in server.asked] == [
        f"a photo of a person {caption}" for caption in CAPTIONS
    ] * 2
    assert server.asked[0] == {
        "prompt": "a photo of a person watching TV",
        "model": "gpt-image-2",
        "n": 1,
        "size": "1024x1024",
    }
    pictures = load_dalle(tmp_path)
    assert len(pictures.test) == 2 * len(CAPTIONS)
    assert pictures.test[0].open().size == (16, 16)


def test_older_models_are_told_to_answer_with_the_picture(
    command: list[str], server: ImageServer
) -> None:
    command += ["--model", "dall-e-3", "--size", "1792x1024"]
    assert main() == 0
    assert server.asked[0]["response_format"] == "b64_json"
    assert (server.asked[0]["model"], server.asked[0]["size"]) == ("dall-e-3", "1792x1024")


@pytest.mark.usefixtures("command")
def test_what_is_there_is_not_drawn_again(server: ImageServer, tmp_path: Path) -> None:
    assert main() == 0
    kept = tmp_path / folder_of(CAPTIONS[0]) / "0000.png"
    before = kept.read_bytes()
    (tmp_path / folder_of(CAPTIONS[3]) / "0000.png").unlink()
    server.asked.clear()
    assert main() == 0
    assert [asked["prompt"] for asked in server.asked] == [f"a photo of a person {CAPTIONS[3]}"]
    assert kept.read_bytes() == before
    assert (
        len(files(tmp_path))
        == len(CAPTIONS)
        == len({name.split("/")[0] for name in files(tmp_path)})
    )


@pytest.mark.usefixtures("command")
def test_without_a_key_nothing_is_asked(
    server: ImageServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert main() == 1
    assert "OPENAI_API_KEY" in capsys.readouterr().out
    assert server.asked == []


@pytest.mark.usefixtures("command")
def test_a_wrong_key_ends_with_a_sentence(
    server: ImageServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    assert main() == 1
    said = capsys.readouterr().out
    assert said.startswith("generation stopped: ")
    assert "Incorrect API key provided" in said
    assert len(server.asked) == 1
    assert files(tmp_path) == []


@pytest.mark.usefixtures("command")
def test_too_many_requests_are_tried_again(server: ImageServer, tmp_path: Path) -> None:
    server.queued = [failure(429, "slow down", "rate_limit_exceeded")] * 3
    assert main() == 0
    assert len(server.asked) == len(CAPTIONS) + 3
    assert len(files(tmp_path)) == len(CAPTIONS)


def test_too_many_requests_for_too_long_end_with_a_sentence(
    command: list[str], server: ImageServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command += ["--retries", "2"]
    server.queued = [picture(0), *[failure(429, "slow down", "rate_limit_exceeded")] * 3]
    assert main() == 1
    assert "slow down" in capsys.readouterr().out
    assert len(server.asked) == 4
    assert files(tmp_path) == [f"{folder_of(CAPTIONS[0])}/0000.png"]


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize("code", ["content_policy_violation", "moderation_blocked"])
def test_a_refused_prompt_is_reported_and_the_others_are_drawn(
    server: ImageServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, code: str
) -> None:
    server.queued = [picture(0), failure(400, "not allowed", code)]
    assert main() == 1
    said = capsys.readouterr().out
    assert f"refused, {CAPTIONS[1]}: " in said
    assert "1 pictures were refused" in said
    assert len(files(tmp_path)) == len(CAPTIONS) - 1
    assert main() == 0
    assert len(files(tmp_path)) == len(CAPTIONS)


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (failure(400, "unknown model", "model_not_found"), "unknown model"),
        ((200, {"created": 1, "data": [{"url": "http://127.0.0.1/x.png"}]}), "no picture in it"),
        ((200, {"created": 1, "data": []}), "no picture in it"),
        ((200, {"created": 1, "data": [{"b64_json": "aGVsbG8="}]}), r"0000.png cannot be read"),
        ((200, {"created": 1, "data": [{"b64_json": "a"}]}), "cannot be read"),
    ],
)
def test_an_answer_that_is_no_picture_ends_with_a_sentence(
    server: ImageServer,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    answer: tuple[int, dict[str, Any]],
    told: str,
) -> None:
    server.queued = [answer]
    assert main() == 1
    said = capsys.readouterr().out
    assert said.startswith("generation stopped: ")
    assert told in said
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_written_ends_with_a_sentence(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    command[2] = str(tmp_path / "file")
    assert main() == 1
    assert "generation stopped: " in capsys.readouterr().out
