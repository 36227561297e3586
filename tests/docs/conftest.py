"""The fixtures that run the command line."""

from tests.cli.conftest import call, place

__all__ = ["call", "place"]
