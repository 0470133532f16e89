"""`python -m seq2seq VERB`: the command line without the installed script."""

import sys

from seq2seq.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
