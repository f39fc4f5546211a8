"""One spelling for a server, Sentinels and a cluster; what is wrong is said without quoting secrets."""

import pytest

from overlay.domain.errors import InvalidConfig
from overlay.storage.redis_layout import Keys
from overlay.storage.redis_url import Address, Form, Login, RedisTarget, parse

SECRET = "s3cret"

UNDERSTOOD = {
    "redis://localhost": RedisTarget(form=Form.SINGLE, addresses=(Address("localhost", 6379),)),
    "redis://h:7000/3": RedisTarget(form=Form.SINGLE, addresses=(Address("h", 7000),), db=3),
    "redis://[::1]:7000": RedisTarget(form=Form.SINGLE, addresses=(Address("::1", 7000),)),
    "redis://:p%40s%2Fs@h": RedisTarget(form=Form.SINGLE, addresses=(Address("h", 6379),), login=Login("", "p@s/s")),
    "redis://ann:s3cret@h/": RedisTarget(form=Form.SINGLE, addresses=(Address("h", 6379),), login=Login("ann", SECRET)),
    "rediss://h?ca_file=/etc/ca.pem": RedisTarget(
        form=Form.SINGLE, addresses=(Address("h", 6379),), tls=True, ca_file="/etc/ca.pem"
    ),
    "unix:///run/redis.sock": RedisTarget(form=Form.SINGLE, addresses=(Address("", 0, "/run/redis.sock"),)),
    "unix://ann:s3cret@/run/redis.sock?db=2": RedisTarget(
        form=Form.SINGLE, addresses=(Address("", 0, "/run/redis.sock"),), db=2, login=Login("ann", SECRET)
    ),
    "redis+sentinel://a,b:26380/main": RedisTarget(
        form=Form.SENTINEL, addresses=(Address("a", 26379), Address("b", 26380)), service="main"
    ),
    "redis+sentinel://ann:s3cret@a:1,b:2/main/4?sentinel_password=x": RedisTarget(
        form=Form.SENTINEL,
        addresses=(Address("a", 1), Address("b", 2)),
        service="main",
        db=4,
        login=Login("ann", SECRET),
        sentinel_login=Login("", "x"),
    ),
    "rediss+sentinel://a/main/0": RedisTarget(
        form=Form.SENTINEL, addresses=(Address("a", 26379),), service="main", tls=True
    ),
    "redis+cluster://a:1,b:2,[::1]:3": RedisTarget(
        form=Form.CLUSTER, addresses=(Address("a", 1), Address("b", 2), Address("::1", 3))
    ),
    "rediss+cluster://a/0": RedisTarget(form=Form.CLUSTER, addresses=(Address("a", 6379),), tls=True),
}

REFUSED = {
    "": "must begin with one of redis://",
    "http://h": "must begin with one of redis://",
    f"redis+{SECRET}://h": "must begin with one of redis://",
    f"redis://ann:{SECRET}@h:port": "must be host or host:port",
    f"redis://ann:{SECRET}@h:99999": "must be host or host:port",
    f"redis://ann:{SECRET}@": "must be host or host:port",
    f"redis://ann:{SECRET}": "must be host or host:port",
    f"redis://{SECRET}@h": "must be user:password",
    f"redis://ann:{SECRET}@h,i": "several hosts need",
    f"redis://ann:{SECRET}@h/main": "must be a number",
    f"redis://h/{SECRET}": "must be a number",
    f"redis://ann:{SECRET}@h/1/2": "only the number of a database",
    f"redis://ann:{SECRET}@h?timeout=3": "it may have nothing",
    f"rediss://h?{SECRET}": "it may have ca_file",
    f"rediss://h?password={SECRET}": "it may have ca_file",
    f"unix://ann:{SECRET}@h/run/redis.sock": "names the absolute path",
    "unix://": "names the absolute path",
    f"unix:///run/redis.sock?db={SECRET}": "must be a number",
    f"redis+sentinel://ann:{SECRET}@a,b": "name of the service must follow",
    f"redis+sentinel://ann:{SECRET}@a,b/main/1/2": "name of the service must follow",
    f"redis+sentinel://a/main?sentinel_password=x@{SECRET}": "only one @",
    f"redis+cluster://ann:{SECRET}@a,b/1": "a cluster has only the database 0",
    f"redis+cluster://ann:{SECRET}@a,,b": "must be host or host:port",
    # Passwords that should have been percent-encoded.
    f"redis://ann:{SECRET}/x@h:6379": "percent-encode the password",
    f"redis://ann:x/{SECRET}@h:6379": "percent-encode the password",
    f"redis://ann:x/{SECRET}@h:6379/0": "percent-encode the password",
    f"redis://:x@{SECRET}@h:6379": "percent-encode the password",
    f"redis://:{SECRET}@x@h:6379/0": "percent-encode the password",
    f"redis+sentinel://:x/{SECRET}@a,b/main": "percent-encode the password",
    f"unix://ann:x/{SECRET}@/run/redis.sock": "percent-encode the password",
}


@pytest.mark.parametrize("url", UNDERSTOOD)
def test_a_url_says_where_redis_is(url: str) -> None:
    """Every form there is, with what may be left out left out."""
    assert parse(url) == UNDERSTOOD[url]


@pytest.mark.parametrize("url", REFUSED)
def test_a_wrong_url_is_refused_in_words(url: str) -> None:
    """The sentence says what is wrong, and never quotes a password, wherever a URL that is misread has it."""
    with pytest.raises(InvalidConfig) as refused:
        parse(url)
    assert REFUSED[url] in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("url", UNDERSTOOD)
def test_secrets_are_never_shown(url: str) -> None:
    """Neither as text nor in a traceback's locals; the rest of the URL stays recognisable."""
    target = parse(url)
    for shown in (str(target), repr(target)):
        assert SECRET not in shown
        assert "p@s/s" not in shown
    assert str(target).partition("://")[0] == url.partition("://")[0]


@pytest.mark.parametrize("prefix", ["", "a b", "a}b", "a*", "ü", "x" * 101])
def test_a_prefix_is_refused_that_a_pattern_or_a_hash_tag_would_misread(prefix: str) -> None:
    """All keys of an index are found by one pattern and lie in one slot."""
    with pytest.raises(InvalidConfig, match="prefix"):
        Keys(prefix)
