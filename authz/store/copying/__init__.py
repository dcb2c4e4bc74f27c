"""From one store to another: everything that is in it, as often as it takes, until both are alike.

A store stands here as a `Side`. Whatever is written may be written again: a copy that was interrupted is
begun anew, and one that follows a running service goes over what has changed.
"""
