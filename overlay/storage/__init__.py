"""Adapters that keep bytes, documents and the ledger."""
