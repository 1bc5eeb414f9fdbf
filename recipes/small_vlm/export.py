"""Write a finished small VLM as a LLaVA folder: connector, decoder and tokenizer, no tower.

The folder names the tower it was trained on by digest, so that it is never put on another one.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor

from encoder.clip import Encoder
from recipes.small_vlm.model import SmallVlm
from recipes.small_vlm.vocabulary import BEGIN, END, IMAGE, PAD, token_id

WEIGHTS = "model.safetensors"


def export_vlm(
    model: SmallVlm,
    tokenizer: Tokenizer,
    encoder: Encoder,
    *,
    class_token: bool,
    out: Path,
    digests: Sequence[str] = (),
) -> None:
    """Write config.json, model.safetensors (fp16) and the tokenizer's two files into `out`.

    `digests` are those of the encoder in other precisions, over which the model may stand too.
    """
    out.mkdir(parents=True, exist_ok=True)
    config = vlm_config(model, tokenizer, class_token=class_token)
    tower = {
        "name": encoder.name,
        "base_digest": list(dict.fromkeys([encoder.base_digest, *digests])),
    }
    config["emend"] = {"tower": tower, "short_answer": ""}
    _write_json(out / "config.json", config)
    _write_json(out / "tokenizer_config.json", _tokenizer_config(model))
    tokenizer.save(str(out / "tokenizer.json"))
    (out / WEIGHTS).write_bytes(save(_weights(model), {"format": "pt"}))


def vlm_config(model: SmallVlm, tokenizer: Tokenizer, *, class_token: bool) -> dict[str, Any]:
    """The keys that are read again, in Hugging Face's names."""
    decoder = model.config
    kept = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "rms_norm_eps",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "tie_word_embeddings",
        "hidden_act",
        "rope_parameters",
    )
    text = {key: getattr(decoder, key) for key in kept} | {"model_type": "llama"}
    return {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "image_token_index": token_id(tokenizer, IMAGE),
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "full" if class_token else "default",
        "text_config": text,
    }


def _tokenizer_config(model: SmallVlm) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": model.config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
    }


def _weights(model: SmallVlm) -> dict[str, Tensor]:
    named = {}
    for name, value in model.named_parameters():
        half = value.detach().to(torch.float16).contiguous()
        if name.startswith("decoder."):
            named[f"language_model.{name.removeprefix('decoder.')}"] = half
        else:
            named[f"multi_modal_projector.{name}"] = half
    return named


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
