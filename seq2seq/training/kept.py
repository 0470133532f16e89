"""Small things that take long to work out, kept in a file beside the encoded corpora from the first run on."""

import hashlib
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from seq2seq.training.files import refusals_explained, write_whole


def kept(path: pathlib.Path, make: Callable[[], Any], say: Callable[[str], None]) -> Any:
    """What a file holds, or, where there is none or it is damaged, what `make` makes, which the file then holds.

    Args:
        path: The file; its name must say all that the content depends on.
        make: Makes the content: what JSON can say.
        say: Is told of damage.

    Raises:
        Seq2SeqError: The file cannot be written.

    Examples:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers"
        >>> kept(path, lambda: [1, 2], print), kept(path, lambda: [3, 4], print)
        ([1, 2], [1, 2])
    """
    if path.is_file():
        checksum, _, text = path.read_bytes().partition(b"\n")
        if checksum == _checksum(text):
            return json.loads(text)
        say(f"{path}: the file is damaged; it is made again.")
    content = make()
    text = json.dumps(content).encode()
    with refusals_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Runs that begin together write the same, each in a folder of its own.
        with tempfile.TemporaryDirectory(prefix=f"{path.name}.partial-", dir=path.parent) as folder:
            whole = pathlib.Path(folder, path.name)
            write_whole(whole, _checksum(text) + b"\n" + text)
            whole.replace(path)
    return content


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()
