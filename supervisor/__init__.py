"""One command that runs the whole service: migrate, then the API and one worker.

The supervisor imports nothing of ours. It starts `python -m app` and `python -m worker` as
processes, forwards their logs, restarts what dies, and stops both. A child whose supervisor is
killed ends by itself (see `supervisor.guard`).
"""
