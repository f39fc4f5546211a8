"""Use cases over protocols."""
