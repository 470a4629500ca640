"""Texts without the secrets that this process has come to know.

Nothing of ours puts a secret into a message; this is the net below, for what libraries and servers say. It
knows every secret that was written into the configuration or revealed: what nobody has read cannot be told.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection

MASK = "**********"

_SHORTEST = 6
"""Shorter secrets, and those equal to a public name, are ordinary words: masking them says nothing."""

_secrets: set[str] = set()
_tokens: deque[str] = deque(maxlen=100)
"""Tokens are made for one login, and expire in minutes."""

_lock = threading.Lock()


def remember(secret: str, *, token: bool = False) -> str:
    """The secret itself, from now on masked in every text; a `token` only for some time."""
    with _lock:
        if token:
            _tokens.append(secret)
        else:
            _secrets.add(secret)
    return secret


def redacted(text: str, public: Collection[str] = ()) -> str:
    """`text` with each known secret masked, but for those that are also one of the `public` names."""
    with _lock:
        known = sorted({*_secrets, *_tokens}, key=len, reverse=True)
    for secret in known:
        if len(secret) >= _SHORTEST and secret not in public:
            text = text.replace(secret, MASK)
    return text
