"""Train Emend's bundled encoder from random weights, with the lab's base model as teacher.

photos -> teacher (targets, computed once) -> text_tower and image_tower (each on its own) -> export
"""
