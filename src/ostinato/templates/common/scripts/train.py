"""`python scripts/train.py ...` is `ostinato train ...`."""

import sys

from ostinato.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
