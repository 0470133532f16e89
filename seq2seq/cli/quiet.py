"""TensorFlow without the page that it writes to stderr when it is imported."""

import os
import re
import sys
import tempfile

GREETING = re.compile(rb"WARNING: All log messages before absl|I0000 ")


def import_tensorflow() -> None:
    """Import TensorFlow, which takes seconds, and pass on what it writes to stderr only where that is news.

    Its greeting comes from C++ before any setting of its own can stop it. Commands call this inside their functions, so
    that help and mistakes in flags are answered at once; afterwards the rooms that need TensorFlow import at once too.
    Whoever sets TF_CPP_MIN_LOG_LEVEL gets all of it.
    """
    if "tensorflow" in sys.modules:
        return
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        import tensorflow

        return
    # What goes wrong for good comes as an exception too; on a machine without a GPU the rest is noise.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        kept = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            os.write(2, b"".join(line for line in written if not GREETING.match(line)))
