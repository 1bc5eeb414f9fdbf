"""The method: choose what may move, move it, judge it. Imports `encoder` and nothing else of ours.

Three levels of call: `methods.fit` (a task in, deltas out), `gate.judge` (deltas in, a verdict
out), and the single steps beneath (`importance`, `selection`, `parametrize`, `trainer`).
"""
