"""One flight per key, and caches bounded in bytes."""
