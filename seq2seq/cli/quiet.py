"""TensorFlow without the page that it writes to stderr when it is imported."""

import os
import re
import sys
import tempfile

GREETING = re.compile(rb"WARNING: All log messages before absl|I0000 ")


def import_tensorflow() -> None:
    """Import TensorFlow, which takes seconds, and pass on what it writes to stderr, except for its greeting.

    The greeting comes from C++ before any setting can stop it; TF_CPP_MIN_LOG_LEVEL shows all of it. Commands call this
    inside their functions, so that help and mistakes in flags are answered at once.
    """
    if "tensorflow" in sys.modules:
        return
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        import tensorflow

        return
    # Fatal problems come as exceptions too; the rest is noise on a machine without a GPU.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        stderr = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            os.write(2, b"".join(line for line in written if not GREETING.match(line)))
