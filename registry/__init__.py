"""The memory: corrections, edit jobs, adapters, promotions, and files by content hash.

Functions take an open `Session` and never commit: the caller opens one visible transaction with
`registry.session.transaction`. Rows handed back stay readable after that transaction has ended.
"""
