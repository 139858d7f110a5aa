"""Commands: parse, call a service, print. Groups are loaded when they are asked for, so that `--help` is instant."""

from loopwright.cli.main import main

__all__ = ["main"]
