"""Secrets in files, as Compose, Swarm and Kubernetes hand them to a container."""

import os
import stat
from pathlib import Path

#: No secret of ours is longer, bytes; what is longer is another file.
MAX_SIZE = 64 * 1024


class SecretFileError(ValueError):
    """The file cannot be taken for a secret; the message names it, what is wrong and what to do."""


def read_secret(path: Path) -> str:
    """The text in `path`, without the line end that editors put after it.

    Raises:
        SecretFileError: it is absent, no file, closed to us, open to everybody, empty, too long or no text.
    """
    try:
        # Without waiting: a pipe that nobody writes to would hold up the start for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SecretFileError(f"the file {path} is not there: write the secret into it") from None
    except OSError as error:
        raise SecretFileError(f"the file {path} cannot be read ({_why(error)})") from None
    try:
        _require_private(path, os.fstat(descriptor))
        return _text(path, os.read(descriptor, MAX_SIZE + 1))
    finally:
        os.close(descriptor)


def _why(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"chgrp {os.getgid()} and chmod 440 let uid {os.getuid()} read it"
    return os.strerror(error.errno or 0)


def _require_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise SecretFileError(f"{path} is no file: name the file that holds the secret")
    if found.st_mode & stat.S_IRWXO:
        mode = stat.S_IMODE(found.st_mode)
        raise SecretFileError(f"the file {path} is open to every user (mode {mode:03o}): chmod 440 it")


def _text(path: Path, content: bytes) -> str:
    if len(content) > MAX_SIZE:
        raise SecretFileError(f"the file {path} is longer than {MAX_SIZE} bytes: is it the right one?")
    try:
        text = content.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise SecretFileError(f"the file {path} holds no text: is it the right one?") from None
    if text.endswith("\r"):
        # The image of Postgres would make it a part of the password.
        raise SecretFileError(f"the file {path} ends its line as Windows does: sed -i 's/\\r$//' {path}")
    if not text.strip():
        raise SecretFileError(f"the file {path} is empty: write the secret into it")
    if "\n" in text or "\0" in text:
        raise SecretFileError(f"the file {path} holds more than one line: is it the right one?")
    return text
