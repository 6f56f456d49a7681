"""Runs tasks on this machine; knows the dispatcher only through shared/client.py.

Read worker.py first: what a worker does. Then executor.py for the child processes that run the tasks.
"""
