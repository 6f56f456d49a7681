"""Baton beside Celery, Huey, Dramatiq and Procrastinate on one no-op, in one run: `make bench-peers`.

One file per peer: celery_redis.py and its like run in .venv-peers, which has their packages, and keep
their imports inside functions, so that this side can read their PEER. Read drain.py for what is measured,
servers.py for what is started, venv.py for what is installed.
"""
