"""The ledger's scripts in Redis: one per change, one per kind of atomic read (Redis 6.2 and later, Valkey).

Here: what a script is, reads, tokens and rates. What is staged changes by the scripts of `redis_stage_scripts`, what is
kept as it is by those of `redis_freeze_scripts`, and all at once by those of `redis_lead_scripts`.

Every script is atomic, checks the `ready` key (KEYS[1]) first, declares the keys it touches, and may be repeated after
a lost answer: it then changes nothing and answers the same (but SPEND, which takes another one). What callers stored is
opaque here: records are put together as text, never decoded and encoded again (Lua's numbers are doubles).

Running out of memory: Redis refuses a script's first write when memory is full, and lets it finish once it wrote. So
nothing is ever half done: what adds begins with a SET that may be refused, what removes begins by deleting. A change
that finds nothing to change still writes: WAIT counts the replicas that have the connection's own last write.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from overlay.storage.redis_layout import CHANGED, SHELF_KEYS


@dataclass(frozen=True, slots=True)
class Script:
    """Lua text, the SHA-1 that Redis knows it by, and whether it is a change (then replicas are waited for)."""

    text: str
    sha1: str
    changes: bool


def script(*parts: str, changes: bool) -> Script:
    """Join parts of Lua text."""
    text = "\n".join(parts)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), changes)


def named_keys(first: int) -> str:
    """Write the Lua that names the keys from KEYS[first] on."""
    fields = ", ".join(f"{name.replace('-', '_')} = KEYS[{at}]" for at, name in enumerate(CHANGED, first))
    return f"local key, SHELF, SHELF_KEYS = {{{fields}}}, {first + len(CHANGED)}, {SHELF_KEYS}"


CHECK_READY: Final = """
local epoch = redis.call('GET', KEYS[1])
if not epoch then return {'unready'} end
"""

# KEYS: ready, tokens, token ids. ARGV: sha256, id, the token.
PUT_TOKEN: Final = script(
    CHECK_READY,
    """
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
    redis.call('HSET', KEYS[3], ARGV[2], ARGV[1])
    return {'ok'}
    """,
    changes=True,
)

# KEYS: ready, tokens, token ids, last serial. ARGV: id.
DROP_TOKEN: Final = script(
    CHECK_READY,
    """
    local sha256 = redis.call('HGET', KEYS[3], ARGV[1])
    if sha256 then
        redis.call('HDEL', KEYS[2], sha256)
        redis.call('HDEL', KEYS[3], ARGV[1])
    else
        redis.call('SET', KEYS[4], redis.call('GET', KEYS[4]) or '0')
    end
    return {'ok'}
    """,
    changes=True,
)

# `overlay.domain.rates` in Lua. No replica is waited for: what was spent may be lost.
# KEYS: ready, until when the token's takings are paid for. ARGV, in µs: clock, a taking's share, a minute's shares, a
# minute; then the seconds to keep the key. Answers the µs to wait.
SPEND: Final = script(
    CHECK_READY,
    """
    local now, share = tonumber(ARGV[1]), tonumber(ARGV[2])
    local begins = tonumber(redis.call('GET', KEYS[2]) or '0')
    if begins <= now or begins > now + ARGV[4] then begins = now end
    local wait = begins + share - now - ARGV[3]
    if wait > 0 then return {'wait', wait} end
    redis.call('SET', KEYS[2], string.format('%.0f', begins + share), 'EX', ARGV[5])
    return {'taken', 0}
    """,
    changes=False,
)

# KEYS: ready, files, then per stage: shelf, revision. Answers per stage: the revision and the files.
SNAPSHOT: Final = script(
    CHECK_READY,
    """
    local answer = {'ok'}
    for at = 3, #KEYS, 2 do
        local uploads, values = redis.call('HVALS', KEYS[at]), {}
        for first = 1, #uploads, 1000 do  -- unpack has a limit of some thousands
            local some = redis.call('HMGET', KEYS[2], unpack(uploads, first, math.min(first + 999, #uploads)))
            for number = 1, #some do values[#values + 1] = some[number] end
        end
        answer[#answer + 1] = redis.call('GET', KEYS[at + 1])
        answer[#answer + 1] = values
    end
    return answer
    """,
    changes=False,
)

BYTE_ORDER: Final = """
-- Upload ids are compared as bytes: Lua's < asks the server's locale.
local function follows(upload, other)
    for at = 1, #upload do
        local byte, other_byte = upload:byte(at), other:byte(at) or -1
        if byte ~= other_byte then return byte > other_byte end
    end
    return false
end
"""

# What is staged, in pieces along the ages. A place there is a time in µs and an upload: uploads keep theirs whatever
# comes and goes meanwhile, and on another server, too. It is found by halving.
# KEYS: ready, files, their ages. ARGV: a place, how many. Answers the epoch, and of the files that follow the place the
# oldest ones, with the place of the last.
OLDEST: Final = script(
    CHECK_READY,
    BYTE_ORDER,
    """
    local first, beyond, time = 0, redis.call('HLEN', KEYS[2]), tonumber(ARGV[1])
    while first < beyond do
        local middle = math.floor((first + beyond) / 2)
        local found = redis.call('ZRANGE', KEYS[3], middle, middle, 'WITHSCORES')
        local at = tonumber(found[2])
        if at < time or at == time and not follows(found[1], ARGV[2]) then first = middle + 1 else beyond = middle end
    end
    local places, uploads = redis.call('ZRANGE', KEYS[3], first, first + ARGV[3] - 1, 'WITHSCORES'), {}
    for at = 1, #places, 2 do uploads[#uploads + 1] = places[at] end
    local values = #uploads > 0 and redis.call('HMGET', KEYS[2], unpack(uploads)) or {}
    return {'ok', epoch, places[#places] or false, places[#places - 1] or false, values}
    """,
    changes=False,
)

# KEYS: ready, names. ARGV: how many, less one. Answers how many projects there are, and those that something was staged
# for last, the latest first, each with when that was.
LATEST: Final = script(
    CHECK_READY,
    "return {'ok', redis.call('ZCARD', KEYS[2]), redis.call('ZRANGE', KEYS[2], 0, ARGV[1], 'REV', 'WITHSCORES')}",
    changes=False,
)

# KEYS: ready, files, shelves. ARGV: how many files of a shelf, and of all. Answers of each shelf how many files it has,
# and the files unless they are more; but only of so many shelves as keep within the bound for all, and of the first.
SHELVES: Final = script(
    CHECK_READY,
    """
    local answer, left = {'ok'}, tonumber(ARGV[2])
    for at = 3, #KEYS do
        local count, values = redis.call('HLEN', KEYS[at]), {}
        if count > 0 and count <= tonumber(ARGV[1]) then
            left = left - count
            if left < 0 and at > 3 then break end
            values = redis.call('HMGET', KEYS[2], unpack(redis.call('HVALS', KEYS[at])))
        end
        answer[#answer + 1] = count
        answer[#answer + 1] = values
    end
    return answer
    """,
    changes=False,
)

# KEYS: ready, files, their ages, bytes. Answers how many files, when the oldest was staged, the bytes.
TOTALS: Final = script(
    CHECK_READY,
    """
    local oldest = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2] or false
    return {'ok', redis.call('HLEN', KEYS[2]), oldest, redis.call('GET', KEYS[4]) or '0'}
    """,
    changes=False,
)

# KEYS: ready, a hash. ARGV: a field. Answers the field's value.
FIELD: Final = script(CHECK_READY, "return {'ok', redis.call('HGET', KEYS[2], ARGV[1])}", changes=False)

# KEYS: ready, files, endings. ARGV: uploads. Answers what each hash has of them.
LOOKUP: Final = script(
    CHECK_READY,
    "return {'ok', redis.call('HMGET', KEYS[2], unpack(ARGV)), redis.call('HMGET', KEYS[3], unpack(ARGV))}",
    changes=False,
)

# KEYS: ready, a hash. Answers all its values.
VALUES: Final = script(CHECK_READY, "return {'ok', redis.call('HVALS', KEYS[2])}", changes=False)

# KEYS: ready, a hash. Answers all its fields.
FIELDS: Final = script(CHECK_READY, "return {'ok', redis.call('HKEYS', KEYS[2])}", changes=False)

# KEYS: ready, then per stage: names, their revision. Answers the same, per stage.
NAMES: Final = script(
    CHECK_READY,
    """
    local answer = {'ok'}
    for at = 2, #KEYS, 2 do
        answer[at] = redis.call('ZRANGE', KEYS[at], 0, -1)
        answer[at + 1] = redis.call('GET', KEYS[at + 1])
    end
    return answer
    """,
    changes=False,
)

# KEYS: ready, the count of events. Answers the epoch and how many there were in it.
EVENTS_MADE: Final = script(
    CHECK_READY, "return {'ok', epoch, tonumber(redis.call('GET', KEYS[2]) or '0')}", changes=False
)

# KEYS: ready, events, their count. ARGV: a number. Answers the epoch, the number of the oldest event held, the first
# number of the answer, and the events that follow the given number.
EVENTS: Final = script(
    CHECK_READY,
    """
    local made = tonumber(redis.call('GET', KEYS[3]) or '0')
    local oldest = made - redis.call('LLEN', KEYS[2]) + 1
    -- No more than there are: LRANGE would get a great number as 1e+17.
    local first = math.max(oldest, math.min(tonumber(ARGV[1]), made) + 1)
    return {'ok', epoch, oldest, first, redis.call('LRANGE', KEYS[2], first - oldest, -1)}
    """,
    changes=False,
)
