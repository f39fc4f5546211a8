"""The CI job's side of `overlay promote`: it pushes with that job's identity, and knows the overlay by HTTP only."""
