"""The ledger's scripts in Redis: one per change, one per kind of atomic read (Redis 6.2 and later, Valkey).

Every script is atomic, checks the `ready` key (KEYS[1]) first, declares the keys it touches, and may be repeated after
a lost answer: it then changes nothing and answers the same. What callers stored is opaque here: records are put
together as text, never decoded and encoded again (Lua's numbers are doubles).

A stored file is `stage project sha256 serial size staged_at upload reach ousted`, a line each with the filename and
with who staged it (both as JSON, so without line breaks), and the record as JSON. `reach` is "any" where the grant was
`*`, else "named" (`overlay.domain.stage.repeats`); `ousted` is the upload it replaced, or "-".

Running out of memory: Redis refuses a script's first write when memory is full, and lets it finish once it wrote. So
nothing is ever half done: what adds begins with a SET that may be refused, what removes begins by deleting. A change
that finds nothing to change still writes: WAIT counts the replicas that have the connection's own last write.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

EVENTS_HELD: Final = 1000
# Endings that may not have reached the history yet; far more than uploads can be in flight at once.
ENDINGS_HELD: Final = 10_000


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


_CHECK_READY: Final = """
local epoch = redis.call('GET', KEYS[1])
if not epoch then return {'unready'} end
"""

FILES: Final = """
local function open(value)
    local stage, project, sha256, serial, size, at, upload, reach, ousted, filename, who, record = string.match(value,
        '^(%S+) (%S+) (%S+) (%d+) (%d+) (%d+) (%S+) (%S+) (%S+)\\n([^\\n]*)\\n([^\\n]*)\\n(.*)$')
    return {stage = stage, project = project, sha256 = sha256, serial = tonumber(serial), size = size, at = at,
            upload = upload, reach = reach, ousted = ousted, filename = filename, who = who, record = record}
end

-- Bringing these bytes under the held file's name would change nothing.
local function repeats(held, sha256, reach)
    return held.sha256 == sha256 and not (held.reach == 'any' and reach ~= 'any')
end

-- Shelves hold a project's files of a stage: filename -> upload. `at` is where a shelf's four keys begin.
local function put(file, value, files, bytes, at, revision, names_revision)
    redis.call('HSET', files, file.upload, value)
    redis.call('HSET', KEYS[at], file.filename, file.upload)
    redis.call('SET', KEYS[at + 1], revision)
    redis.call('INCRBY', bytes, file.size)
    if redis.call('ZADD', KEYS[at + 2], 0, file.project) == 1 then
        redis.call('SET', KEYS[at + 3], names_revision)
    end
end

local function drop(file, files, bytes, at, revision, names_revision)
    redis.call('HDEL', files, file.upload)
    redis.call('HDEL', KEYS[at], file.filename)
    redis.call('DECRBY', bytes, file.size)
    if redis.call('HLEN', KEYS[at]) > 0 then
        redis.call('SET', KEYS[at + 1], revision)
    else
        redis.call('DEL', KEYS[at + 1])
        redis.call('ZREM', KEYS[at + 2], file.project)
        redis.call('SET', KEYS[at + 3], names_revision)
    end
end
"""

_ENDINGS: Final = f"""
-- `at` is where the keys of endings, their order, events and the events' count begin.
local function tell(at, kind, record, when, who)
    redis.call('RPUSH', KEYS[at + 2],
        '{{"kind":"' .. kind .. '","at_us":' .. when .. ',"who":' .. who .. ',"file":' .. record .. '}}')
    redis.call('LTRIM', KEYS[at + 2], -{EVENTS_HELD}, -1)
    redis.call('INCR', KEYS[at + 3])
end

local function ending(record, reason, when, who)
    return '{{"file":' .. record .. ',"reason":"' .. reason .. '","at_us":' .. when .. ',"who":' .. who .. '}}'
end

local function finish(at, file, reason, kind, when, who)
    local gone = ending(file.record, reason, when, who)
    redis.call('HSET', KEYS[at], file.upload, gone)
    redis.call('RPUSH', KEYS[at + 1], file.upload)
    if redis.call('LLEN', KEYS[at + 1]) > {ENDINGS_HELD} then
        redis.call('HDEL', KEYS[at], redis.call('LPOP', KEYS[at + 1]))
    end
    tell(at, kind, file.record, when, who)
    return gone
end
"""

# KEYS: ready, last serial, files, shelf. ARGV: filename, sha256, reach, may replace, clock in µs.
ADMIT: Final = script(
    _CHECK_READY,
    FILES,
    """
    local upload = redis.call('HGET', KEYS[4], ARGV[1])
    local value = upload and redis.call('HGET', KEYS[3], upload)
    local held = value and open(value)
    if held and held.sha256 ~= ARGV[2] and ARGV[4] ~= '1' then return {'exists', held.sha256} end
    local last = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') + 1, tonumber(ARGV[5]))
    redis.call('SET', KEYS[2], string.format('%.0f', last))
    if held and repeats(held, ARGV[2], ARGV[3]) then return {'already', value} end
    return {'admitted', string.format('%.0f', last)}
    """,
    changes=True,
)

# KEYS: ready, last serial, files, bytes, endings, their order, events, their count, shelf's four.
# ARGV: the value up to `ousted`, the lines after it, may replace, new revision, new revision of the names.
STAGE: Final = script(
    _CHECK_READY,
    FILES,
    _ENDINGS,
    """
    local new = open(ARGV[1] .. ' -\\n' .. ARGV[2])
    local last = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), new.serial)
    redis.call('SET', KEYS[2], string.format('%.0f', last))
    local known = redis.call('HGET', KEYS[3], new.upload)
    if known then return {'staged', redis.call('HGET', KEYS[5], open(known).ousted)} end
    local ended = redis.call('HGET', KEYS[5], new.upload)
    if ended then return {'staged', ended} end
    local upload = redis.call('HGET', KEYS[9], new.filename)
    local value = upload and redis.call('HGET', KEYS[3], upload)
    local held = value and open(value)
    if held then
        if held.sha256 ~= new.sha256 and ARGV[3] ~= '1' then return {'exists', held.sha256} end
        -- Two uploads of the same bytes that raced past `admit`: the first one shown stays.
        if held.serial > new.serial or repeats(held, new.sha256, new.reach) then
            return {'staged', finish(5, new, 'replaced', 'replaced', held.at, held.who)}
        end
        redis.call('HDEL', KEYS[3], held.upload)
        redis.call('DECRBY', KEYS[4], held.size)
        ended = finish(5, held, 'replaced', 'replaced', new.at, new.who)
    end
    value = ARGV[1] .. ' ' .. (held and held.upload or '-') .. '\\n' .. ARGV[2]
    put(new, value, KEYS[3], KEYS[4], 9, ARGV[4], ARGV[5])
    tell(5, 'staged', new.record, new.at, new.who)
    return {'staged', ended}
    """,
    changes=True,
)

# KEYS: ready, last serial, files, bytes, endings, their order, events, their count, then per upload its shelf's four.
# ARGV: reason, kind of event, when, who, then per upload: its id, new revision, new revision of the names.
FORGET: Final = script(
    _CHECK_READY,
    FILES,
    _ENDINGS,
    """
    local ended, changed = {'forgotten'}, false
    local same = ending('', ARGV[1], ARGV[3], ARGV[4]):sub(#'{"file":' + 1)
    for number = 0, (#KEYS - 8) / 4 - 1 do
        local upload = ARGV[5 + 3 * number]
        local value = redis.call('HGET', KEYS[3], upload)
        if value then
            local file, at = open(value), 9 + 4 * number
            drop(file, KEYS[3], KEYS[4], at, ARGV[6 + 3 * number], ARGV[7 + 3 * number])
            ended[#ended + 1] = finish(5, file, ARGV[1], ARGV[2], ARGV[3], ARGV[4])
            changed = true
        else
            local gone = redis.call('HGET', KEYS[5], upload)
            if gone and gone:sub(-#same) == same then ended[#ended + 1] = gone end  -- a repeat of this very call
        end
    end
    if not changed then redis.call('SET', KEYS[2], redis.call('GET', KEYS[2]) or '0') end
    return ended
    """,
    changes=True,
)

# KEYS: ready, tokens, token ids. ARGV: sha256, id, the token.
PUT_TOKEN: Final = script(
    _CHECK_READY,
    """
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
    redis.call('HSET', KEYS[3], ARGV[2], ARGV[1])
    return {'ok'}
    """,
    changes=True,
)

# KEYS: ready, tokens, token ids, last serial. ARGV: id.
DROP_TOKEN: Final = script(
    _CHECK_READY,
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

# KEYS: ready, files, then per stage: shelf, revision. Answers per stage: the revision and the files.
SNAPSHOT: Final = script(
    _CHECK_READY,
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

# KEYS: ready, then hashes. ARGV: a field. Answers the field's value of each.
FIELD: Final = script(
    _CHECK_READY,
    """
    local answer = {'ok'}
    for at = 2, #KEYS do answer[at] = redis.call('HGET', KEYS[at], ARGV[1]) end
    return answer
    """,
    changes=False,
)

# KEYS: ready, files, endings. ARGV: uploads. Answers what each hash has of them.
LOOKUP: Final = script(
    _CHECK_READY,
    "return {'ok', redis.call('HMGET', KEYS[2], unpack(ARGV)), redis.call('HMGET', KEYS[3], unpack(ARGV))}",
    changes=False,
)

# KEYS: ready, a hash. Answers all its values.
VALUES: Final = script(_CHECK_READY, "return {'ok', redis.call('HVALS', KEYS[2])}", changes=False)

# KEYS: ready, then per stage: names, their revision. Answers the same, per stage.
NAMES: Final = script(
    _CHECK_READY,
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

# KEYS: ready, events, their count. ARGV: a number. Answers the epoch, the number of the oldest event held, the first
# number of the answer, and the events that follow the given number.
EVENTS: Final = script(
    _CHECK_READY,
    """
    local made = tonumber(redis.call('GET', KEYS[3]) or '0')
    local oldest = made - redis.call('LLEN', KEYS[2]) + 1
    local first = math.max(oldest, tonumber(ARGV[1]) + 1)
    return {'ok', epoch, oldest, first, redis.call('LRANGE', KEYS[2], first - oldest, -1)}
    """,
    changes=False,
)
