"""Texts without the secrets that this process has come to know.

Nothing of ours puts a secret into a message; this is the net below, for what libraries and servers say. It
knows every secret that was revealed (by `Secret.reveal` and the like): what nobody has read cannot be told.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

MASK = "**********"

_SHORTEST = 6
"""Shorter secrets, and those equal to a public name, are ordinary words: masking them says nothing."""

_MOST = 500
"""Login tokens are new for every connection; the oldest have long expired."""

_known: dict[str, None] = {}
_lock = threading.Lock()


def remember(secret: str) -> str:
    """The secret itself, from now on masked in every text."""
    with _lock:
        _known.pop(secret, None)
        _known[secret] = None
        while len(_known) > _MOST:
            del _known[next(iter(_known))]
    return secret


def redacted(text: str, public: Collection[str] = ()) -> str:
    """`text` with each known secret masked, but for those that are also one of the `public` names."""
    with _lock:
        known = sorted(_known, key=len, reverse=True)
    for secret in known:
        if len(secret) >= _SHORTEST and secret not in public:
            text = text.replace(secret, MASK)
    return text
