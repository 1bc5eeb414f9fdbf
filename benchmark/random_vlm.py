"""A LLaVA-1.5 of full height at the eye and reduced depth and width behind it, at random weights.

Tower and image are those of the published model (ViT-L/14 at 336 pixels, 576 image tokens, read
before the last block); the decoder is a Llama of width 1,024 with 8 blocks and 32,000 tokens. What
it says means nothing; what a question costs does not depend on that.

A word is a token, so that questions and options have as many tokens as they are written with.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.model import CLIP, set_model_preprocess_cfg
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg
from torch import nn

from encoder.clip import Encoder, Precision, adopt_model
from encoder.vlm.decoder import DTYPES
from encoder.vlm.dialogue import SHORT_ANSWER, LlavaDialogue
from encoder.vlm.llava import LlavaConnector
from encoder.vlm.model import VisionLanguageModel
from encoder.vlm.reading import TowerReading
from encoder.vlm.words import Words

SIDE, TOWER_WIDTH, TOWER_BLOCKS = 336, 1024, 24
WIDTH, BLOCKS, VOCABULARY, CONTEXT = 1024, 8, 32_000, 2_048
_SPECIAL = ("<unk>", "<s>", "</s>")
_TEXT: dict[str, int] = {  # not used, as small as it can be
    "context_length": 8,
    "vocab_size": 49_408,
    "width": 8,
    "heads": 1,
    "layers": 1,
}


def random_encoder(seed: int = 0) -> Encoder:
    """An encoder with LLaVA-1.5's tower."""
    torch.manual_seed(seed)
    vision = {
        "image_size": SIDE,
        "layers": TOWER_BLOCKS,
        "width": TOWER_WIDTH,
        "patch_size": 14,
    }
    model = CLIP(embed_dim=768, vision_cfg=vision, text_cfg=_TEXT, quick_gelu=True)
    set_model_preprocess_cfg(model, {**vars(PreprocessCfg()), "size": SIDE})
    return adopt_model(model, SimpleTokenizer(context_length=8), name="random ViT-L-14-336")


def random_vlm(text: str, *, precision: Precision = "fp32", seed: int = 0) -> VisionLanguageModel:
    """A model that knows the words of a text, for `random_encoder()`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    decoder = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=WIDTH,
            intermediate_size=2_752,
            num_hidden_layers=BLOCKS,
            num_attention_heads=16,
            vocab_size=VOCABULARY,
            max_position_embeddings=CONTEXT,
        )
    )
    connector = LlavaConnector((TOWER_WIDTH, WIDTH), nn.GELU(), bias=True)
    for part in (decoder, connector):
        part.eval().requires_grad_(requires_grad=False).to(DTYPES[precision])
    return VisionLanguageModel(
        name="random",
        family="llava",
        reading=TowerReading(blocks=TOWER_BLOCKS - 1, class_token=False, image_size=SIDE),
        connector=connector,
        decoder=decoder,
        words=_words(text),
        dialogue=LlavaDialogue(),
        context_length=CONTEXT,
    )


def _words(text: str) -> Words:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Whitespace()
    known = dict.fromkeys(word for word, _ in split.pre_tokenize_str(f"{text} {SHORT_ANSWER}"))
    vocabulary = {word: number for number, word in enumerate([*_SPECIAL, *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    build: Any = PreTrainedTokenizerFast
    fast = build(tokenizer_object=tokenizer, unk_token="<unk>")
    return Words(fast, begin=1, end=2)
