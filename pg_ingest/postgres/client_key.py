"""Private keys as libpq takes them: PEM, or DER without a password.

An encrypted key in DER (PKCS#8, as `openssl pkcs8 -topk8 -outform der` writes it) is the very content of an
encrypted PEM file without its wrapping. So it is wrapped, still encrypted, into a file of our own, which lives
as long as this process.

In DER a PrivateKeyInfo begins with its version, an INTEGER; an EncryptedPrivateKeyInfo with its algorithm, a
SEQUENCE (RFC 5958, sections 2 and 3).
"""

from __future__ import annotations

import atexit
import base64
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

_SEQUENCE = 0x30
_LONG_FORM = 0x80


def key_for_libpq(path: Path) -> Path:
    """The key's file, or one of ours with the same key and permissions.

    What cannot be read is libpq's to tell.
    """
    try:
        found = path.stat()
        content = path.read_bytes()
    except OSError:
        return path
    if not is_encrypted_der(content):
        return path
    mode = found.st_mode & 0o777
    if not _wrapped(content, mode).exists():  # somebody has tidied the temporary folder
        _wrapped.cache_clear()
    return _wrapped(content, mode)


def is_encrypted_der(content: bytes) -> bool:
    """Whether it is an EncryptedPrivateKeyInfo in DER."""
    if len(content) < 8 or content[0] != _SEQUENCE:
        return False
    length = content[1]
    header = 2 if length < _LONG_FORM else 2 + (length - _LONG_FORM)
    return header < len(content) and content[header] == _SEQUENCE


@lru_cache(maxsize=32)
def _wrapped(content: bytes, mode: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pg_ingest_key_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    lines = base64.encodebytes(content).decode().replace("\n", "")
    body = "\n".join(lines[at : at + 64] for at in range(0, len(lines), 64))
    file = folder / "client.key"
    file.touch(mode=0o600)
    file.write_text(
        f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    file.chmod(mode)  # libpq refuses a key that others may read, and this one no less
    return file
