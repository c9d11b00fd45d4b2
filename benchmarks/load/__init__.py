"""What asks: each module one kind of load. All run on the processor that is not the proxy's.

Every function returns how much was done, and raises LoadError when any of it was not done right: a
proxy that answers 502 is not fast.
"""


class LoadError(Exception):
    """The work was not done, or not rightly."""
