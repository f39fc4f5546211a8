"""Fixtures of the promotion client's tests: the real clients, as the end-to-end tests have them."""

from tests.e2e.conftest import clients

__all__ = ["clients"]
