"""Vision-language models that read the served encoder's own tower.

Decoder, connector and tokenizer know no version and are loaded once (`load.load_vlm`); what the
image is to them comes from the encoder that answers (`VisionLanguageModel.image_tokens`), so an
edit reaches classifier and VLM together. `transformers` is imported when a VLM is loaded, not
before.
"""
