"""Adapters to the index we overlay."""
