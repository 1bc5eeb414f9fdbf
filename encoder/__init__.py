"""The model: load an open_clip encoder, adapt it by named deltas, ask it (classify, embed).

No HTTP, no SQL, no training here. Levels of call, from the usual to the bare:
`clip.load_encoder` -> `classifier.build_classifier` -> `Encoder.embed_images` / `embed_texts`.
"""
