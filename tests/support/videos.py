"""Videos made on the spot: each frame is of one grey, brighter than the one before."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

STEP = 5
"""Of grey, from frame to frame."""


def write_video(
    path: Path, *, frames: int, rate: int = 10, side: int = 64, codec: str = "mpeg4"
) -> Path:
    """An MP4 with its index in front, key frames seven frames apart; returns its path."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as video:
        stream = video.add_stream(codec, rate=rate, options={"g": "7"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            grey = np.full((side, side, 3), number * STEP, dtype=np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        video.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """An MP4 without pictures; returns its path."""
    with av.open(str(path), "w") as video:
        stream = video.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), dtype=np.float32), format="fltp")
        sound.sample_rate = 8000
        video.mux(stream.encode(sound))
        video.mux(stream.encode())
    return path
