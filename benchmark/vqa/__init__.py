"""The paper's VQA study: what an edit of the encoder alone does to a VLM that reads it.

converters, loaders -> questions -> edits by every method -> evaluation -> a JSON a run -> tables
"""
