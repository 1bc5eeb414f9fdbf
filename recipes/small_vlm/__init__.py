"""Train a small VLM over a frozen encoder: LLaVA's architecture, on answers made from labels.

pictures -> tokens (of the frozen tower, computed once) -> questions -> training -> export
"""
