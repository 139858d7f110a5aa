"""`python -m loopwright.serve`."""

from loopwright.serve.process import main

if __name__ == "__main__":
    raise SystemExit(main())
