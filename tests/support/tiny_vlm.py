"""LLaVA folders at the scale of tests: a two-block decoder over a tiny encoder.

`tiny_vlm_folder(path, encoder)` writes connector and decoder alone, as the bundled model is stored;
`full_llava_folder(path, encoder)` is written by transformers itself, tower included. Matrices are
drawn as in `chaos.tiny_encoder`, so that different images and words give different answers. The
fixtures `tiny_vlm_path` and `tiny_vlm` are one over `tiny_encoder()`, made once a session.

The tokenizer is byte-level: every text can be asked, and is about as many tokens as characters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from chaos.tiny_encoder import draw_weights
from encoder.clip import Encoder
from encoder.vlm.hf_names import hf_config, hf_state
from encoder.vlm.llava import LlavaConnector
from encoder.vlm.reading import tower_width

VLM_CONTEXT = 512  # tokens
VLM_WIDTH = 32  # D
_SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
_VOCABULARY = 320  # tokens: special ones, one a byte, a few words
_SENTENCES = (
    "USER: What is this? ASSISTANT: a stop sign",
    "USER: Is this a cat? ASSISTANT: yes no",
    "Answer the question using a single word or phrase.",
)
_CONFIG: dict[str, Any] = {
    "model_type": "llava",
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "projector_hidden_act": "gelu",
    "image_token_index": _SPECIAL.index("<image>"),
}


def tiny_vlm_folder(
    folder: Path, encoder: Encoder, *, seed: int = 0, short_answer: str = ""
) -> Path:
    """Write a model that reads this encoder's tower, without the tower; returns the folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    width = tower_width(encoder.model.get_submodule("visual"))
    decoder = LlamaForCausalLM(LlamaConfig(**tiny_llama_config()))
    connector = LlavaConnector((width, VLM_WIDTH), nn.GELU(), bias=True)
    state: dict[str, Tensor] = {}
    for prefix, part in (("language_model.", decoder), ("multi_modal_projector.", connector)):
        draw_weights(part, seed)
        state |= {prefix + name: weight for name, weight in part.state_dict().items()}
    save_tokenizer(folder)
    save_file({n: w.half().contiguous() for n, w in state.items()}, folder / "model.safetensors")
    config = {
        **_CONFIG,
        "text_config": {"model_type": "llama", **tiny_llama_config()},
        "emend": {
            "tower": {"name": encoder.name, "base_digest": encoder.base_digest},
            "short_answer": short_answer,
        },
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def full_llava_folder(folder: Path, encoder: Encoder, *, seed: int = 0) -> Path:
    """Write the whole model with transformers' own `save_pretrained`; returns the folder.

    The encoder's tower must be one of open_clip's own layout, with `ln_pre`.
    """
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    config = {key: value for key, value in _CONFIG.items() if key != "model_type"}
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(**hf_config(encoder)),
            text_config=LlamaConfig(**tiny_llama_config()),
            **config,
        )
    )
    draw_weights(model, seed)
    model.model.vision_tower.load_state_dict(hf_state(encoder), strict=True)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json; begins with `<s>`, knows `<image>`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in _SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts), encoding="utf-8")


def tiny_llama_config() -> dict[str, Any]:
    """The decoder's configuration, as transformers takes it."""
    return {
        "hidden_size": VLM_WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": _VOCABULARY,
        "max_position_embeddings": VLM_CONTEXT,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    }
