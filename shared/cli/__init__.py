"""./baton: the command line. One file per noun; talks to the dispatcher through shared/client.py only.

Read command.py first (what every verb has in common), then root.py (the tree of verbs).
"""
