"""The dispatcher owns the database and the only clock that decides anything.

Read ledger.py: one method per verb, one transaction each. It never imports tasks or worker.
"""
