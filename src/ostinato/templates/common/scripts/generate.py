"""`python scripts/generate.py ...` is `ostinato generate ...`."""

import sys

from ostinato.cli.main import main

if __name__ == "__main__":
    main(["generate", *sys.argv[1:]])
