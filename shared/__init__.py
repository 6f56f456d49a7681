"""Facts that dispatcher, worker and clients must agree on; imports nothing else of ours.

Read lifecycle.py first: the whole state machine is one table there.
"""

VERSION = "0.1.0"
