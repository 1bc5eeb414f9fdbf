"""Attention as matrix products against torch's fused one: ``python -m benchmark.attention``.

In bfloat16 on a CPU, side by side in one process: forward and backward through a whole vision tower
with gradients of all its weights, as training has them, and forward alone. Medians of turns in
which both ways are taken once; CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.loop import RESULTS, say
from benchmark.record import DirtyTree, check_out, libraries, write_json
from encoder.clip import Encoder, load_encoder
from encoder.errors import EncoderError
from encoder.plain_attention import attend_plainly
from encoder.token_order import put_tokens_first

WARM = 2  # turns that do not count


def compare(encoder: Encoder, *, images: int, turns: int) -> dict[str, Any]:
    """Seconds by way and by what is done, their ratios, and how far features are from fp32's."""
    visual = encoder.model.get_submodule("visual")
    towers = {"fused": copy.deepcopy(visual), "plain": copy.deepcopy(visual)}
    for tower in towers.values():
        put_tokens_first(tower)
        tower.requires_grad_()
    attend_plainly(towers["plain"])
    side = encoder.preprocessing.image_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, side, side), generator=generator, dtype=torch.uint8)
    photos = encoder.preprocessing.normalise(pixels).float()
    seconds: dict[str, dict[str, list[float]]] = {
        way: {"step": [], "forward": []} for way in towers
    }
    for turn in range(turns + WARM):
        for way, tower in towers.items():
            step = _clocked(partial(_step, tower, photos))
            forward = _clocked(partial(_features, tower, photos))
            if turn >= WARM:
                seconds[way]["step"].append(step)
                seconds[way]["forward"].append(forward)
    exact = encoder.embed_images(pixels).cpu()
    told: dict[str, Any] = {"tokens": _tokens(towers["plain"]), "images": images}
    for what in ("step", "forward"):
        fused, plain = (statistics.median(seconds[way][what]) for way in ("fused", "plain"))
        pairs = zip(seconds["plain"][what], seconds["fused"][what], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        told[what] = {"fused": round(fused, 4), "plain": round(plain, 4), "ratio": round(ratio, 3)}
    for way, tower in towers.items():
        apart = 1 - (_features(tower, photos) * exact).sum(dim=1)
        told[f"{way}_from_fp32"] = {"mean": apart.mean().item(), "most": apart.max().item()}
    return told


def _clocked(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def _step(tower: nn.Module, photos: Tensor) -> None:
    tower.zero_grad()
    torch.autograd.backward(_unit(tower, photos).sum())


def _features(tower: nn.Module, photos: Tensor) -> Tensor:
    with torch.no_grad():
        return _unit(tower, photos)


def _unit(tower: nn.Module, photos: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        found = tower(photos)
    return F.normalize((found[0] if isinstance(found, tuple) else found).float(), dim=-1)


def _tokens(tower: nn.Module) -> int:
    """That the blocks see, by the longest position embedding."""
    places = [p for name, p in tower.named_parameters() if "pos" in name and p.dim() >= 2]
    return max((int(p.shape[-2]) for p in places), default=0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 1 stopped, with a sentence that says why."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.attention", description=__doc__)
    parser.add_argument("--encoder", nargs="+", default=["bundled"], help="names or folders")
    parser.add_argument("--images", type=int, default=16, help="a step")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS / "attention.json")
    parser.add_argument("--allow-dirty", action="store_true", help="of code not committed")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        at = check_out(options.out, allow_dirty=options.allow_dirty)
        told = {}
        for name in options.encoder:
            encoder = load_encoder(name)
            short = Path(name).name
            told[short] = compare(encoder, images=options.images, turns=options.turns)
            say(f"{short}: {told[short]}")
    except (DirtyTree, EncoderError) as problem:
        print(f"stopped: {problem}", file=sys.stderr)
        return 1
    write_json(options.out, {"commit": at, "libraries": libraries(), "encoders": told})
    return 0


if __name__ == "__main__":
    sys.exit(main())
