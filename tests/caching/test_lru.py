"""The cache holds the most recently used values, bounded in bytes."""

from hypothesis import given
from hypothesis import strategies as st

from overlay.caching.lru import ByteLru

STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "get", "drop"]), st.integers(0, 6), st.binary(max_size=30)), max_size=60
)


@given(STEPS, st.integers(0, 60))
def test_it_behaves_as_a_list_in_order_of_use(steps: list[tuple[str, int, bytes]], limit: int) -> None:
    """Against a model: what is held, in which order it goes, and how many bytes it counts."""
    cache: ByteLru[int, bytes] = ByteLru(limit, len)
    model: list[tuple[int, bytes]] = []
    for step, key, value in steps:
        held = dict(model).get(key)
        if step == "get":
            assert cache.get(key) == held
            if held is not None:
                model = [pair for pair in model if pair[0] != key] + [(key, held)]
            continue
        model = [pair for pair in model if pair[0] != key]
        if step == "drop":
            cache.drop(key)
        else:
            cache.put(key, value)
            if len(value) <= limit:
                model.append((key, value))
            while sum(len(body) for _, body in model) > limit:
                model.pop(0)
        assert cache.size_bytes == sum(len(body) for _, body in model)
        assert len(cache) == len(model)
    for key, value in model:
        assert cache.get(key) == value
