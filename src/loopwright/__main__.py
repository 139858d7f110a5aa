"""`python -m loopwright` is the command `loopwright`."""

import sys

from loopwright.cli import main

if __name__ == "__main__":
    sys.exit(main())
