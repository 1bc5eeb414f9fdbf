"""Runs edit jobs: takes one from the database, fits it, judges it, and makes it live."""
