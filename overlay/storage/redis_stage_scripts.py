"""The scripts that change what is staged: admit, stage, forget, mark live; and the Lua that a load shares with them.

A stored file is `project sha256 serial size staged_at upload token reach ousted`, a line each with the filename and
with who staged it (both as JSON, so without line breaks), and the record as JSON. `reach` is "any" where the grant was
`*`, else "named" (`overlay.domain.stage.repeats`); `ousted` is the upload it replaced, or "-".

All of them are given the same keys first, `redis_layout.CHANGED`, which Lua has as `key.<name>`; then the shelf of each
file that they may touch, from KEYS[SHELF] on. Shelves hold a project's files of a stage: filename -> upload.
"""

from typing import Final

from overlay.storage.redis_freeze_scripts import FREEZES
from overlay.storage.redis_scripts import BYTE_ORDER, CHECK_READY, named_keys, script

# Endings that may not have reached the history yet; far more than uploads can be in flight at once.
ENDINGS_HELD: Final = 10_000


FILES: Final = """
local function open(value)
    local project, sha256, serial, size, at, upload, token, reach, ousted, filename, who, record = string.match(value,
        '^(%S+) (%S+) (%d+) (%d+) (%d+) (%S+) (%S+) (%S+) (%S+)\\n([^\\n]*)\\n([^\\n]*)\\n(.*)$')
    return {project = project, sha256 = sha256, serial = tonumber(serial), size = size, at = at, upload = upload,
            token = token, reach = reach, ousted = ousted, filename = filename, who = who, record = record}
end

local function count(file, size)
    local added = string.format('%.0f', size)
    redis.call('INCRBY', key.bytes, added)
    if redis.call('HINCRBY', key.token_bytes, file.token, added) == 0 then
        redis.call('HDEL', key.token_bytes, file.token)
    end
end

-- `at` is where a shelf's keys begin.
local function put(file, value, at, revision, names_revision)
    redis.call('HSET', key.files, file.upload, value)
    redis.call('ZADD', key.ages, file.at, file.upload)
    redis.call('HSET', KEYS[at], file.filename, file.upload)
    redis.call('SET', KEYS[at + 1], revision)
    count(file, file.size)
    if redis.call('ZADD', KEYS[at + 2], 'GT', file.at, file.project) == 1 then
        redis.call('SET', KEYS[at + 3], names_revision)
    end
end
"""

_ENDINGS: Final = f"""
-- `overlay.domain.stage.precedence`.
local function precedes(file, other)
    if file.serial ~= other.serial then return file.serial > other.serial end
    return follows(file.upload, other.upload)
end

-- Bringing these bytes under the held file's name would change nothing.
local function repeats(held, sha256, reach)
    return held.sha256 == sha256 and not (held.reach == 'any' and reach ~= 'any')
end

-- What holds a name: its value, and that opened.
local function holder(filename)
    local upload = redis.call('HGET', KEYS[SHELF], filename)
    local value = upload and redis.call('HGET', key.files, upload)
    return value, value and open(value)
end

local function is_live(upload)
    return redis.call('HEXISTS', key.live, upload) == 1
end

-- All of a file but its shelf, which another one may hold then.
local function take_away(file)
    redis.call('HDEL', key.files, file.upload)
    redis.call('HDEL', key.live, file.upload)
    redis.call('ZREM', key.ages, file.upload)
    count(file, 0 - file.size)  -- not -0, which Redis takes for no number
end

local function drop(file, at, revision, names_revision)
    take_away(file)
    redis.call('HDEL', KEYS[at], file.filename)
    if redis.call('HLEN', KEYS[at]) > 0 then
        redis.call('SET', KEYS[at + 1], revision)
    else
        redis.call('DEL', KEYS[at + 1])
        redis.call('ZREM', KEYS[at + 2], file.project)
        redis.call('SET', KEYS[at + 3], names_revision)
    end
end

local function tell(kind, record, when, who)
    add_event(kind, when, who, '"file":' .. record)
end

local function ending(record, reason, when, who)
    return '{{"file":' .. record .. ',"reason":"' .. reason .. '","at_us":' .. when .. ',"who":' .. who .. '}}'
end

local function ended_so(gone, reason, when, who)
    local same = ending('', reason, when, who):sub(#'{{"file":' + 1)
    return gone:sub(-#same) == same
end

-- What was refused was never there: of it there is no kind of event.
local function finish(file, reason, kind, when, who)
    local gone = ending(file.record, reason, when, who)
    redis.call('HSET', key.ended, file.upload, gone)
    redis.call('RPUSH', key.ended_order, file.upload)
    if redis.call('LLEN', key.ended_order) > {ENDINGS_HELD} then
        redis.call('HDEL', key.ended, redis.call('LPOP', key.ended_order))
    end
    if kind then tell(kind, file.record, when, who) end
    return gone
end
"""

_CHANGE: Final = (CHECK_READY, named_keys(1), BYTE_ORDER, FILES, FREEZES, _ENDINGS)

# Bytes that come under a name. Other bytes hold it, and may not be replaced: `exists`, with their hash, the freeze of
# their release, and whether they are live (then for good, and without a freeze); a new name in a release that is kept
# as it is: `frozen`, with the freeze. Else nil, and whether these very bytes are kept as they are.
_MEET: Final = """
local function meet(held, sha256, may_replace, release, now)
    if held and is_live(held.upload) then
        return held.sha256 ~= sha256 and {'exists', held.sha256, false, '1'} or nil, true
    end
    local freeze = keeper(release, now)
    if held and held.sha256 ~= sha256 and (freeze or may_replace ~= '1') then
        return {'exists', held.sha256, freeze and freeze.value, false}
    end
    if freeze and not held then return {'frozen', freeze.value} end
    return nil, freeze and true
end
"""

# KEYS: the changed, a shelf. ARGV: filename, sha256, reach, may replace, clock in µs, release.
ADMIT: Final = script(
    *_CHANGE,
    _MEET,
    """
    local value, held = holder(ARGV[1])
    local refusal, kept = meet(held, ARGV[2], ARGV[4], ARGV[6], ARGV[5])
    if refusal then return refusal end
    local last = math.max(tonumber(redis.call('GET', key.last_serial) or '0') + 1, tonumber(ARGV[5]))
    redis.call('SET', key.last_serial, string.format('%.0f', last))
    if kept or held and repeats(held, ARGV[2], ARGV[3]) then return {'already', value} end
    return {'admitted', string.format('%.0f', last), epoch}
    """,
    changes=True,
)

# KEYS: the changed, a shelf. ARGV: the value up to `ousted`, the lines after it, may replace, epoch of its admission,
# new revision, new revision of the names, clock in µs, release.
STAGE: Final = script(
    *_CHANGE,
    _MEET,
    """
    local new = open(ARGV[1] .. ' -\\n' .. ARGV[2])
    local last = math.max(tonumber(redis.call('GET', key.last_serial) or '0'), new.serial)
    redis.call('SET', key.last_serial, string.format('%.0f', last))
    local known = redis.call('HGET', key.files, new.upload)
    if known then return {'staged', redis.call('HGET', key.ended, open(known).ousted)} end
    local ended, _, held = redis.call('HGET', key.ended, new.upload), holder(new.filename)
    if ended and ended_so(ended, 'refused', new.at, new.who) then
        return {'exists', held and held.sha256 or false, false, held and is_live(held.upload) and '1' or false}
    end
    if ended then return {'staged', ended} end
    if ARGV[4] ~= epoch then return {'rebuilt'} end  -- before that, it may have ended
    local refusal, kept = meet(held, new.sha256, ARGV[3], ARGV[8], ARGV[7])
    if refusal then
        if refusal[1] == 'exists' and not refusal[3] then finish(new, 'refused', nil, new.at, new.who) end
        return refusal
    end
    if held then
        -- Two uploads of the same bytes that raced past `admit`: the first one shown stays.
        if kept or precedes(held, new) or repeats(held, new.sha256, new.reach) then
            return {'staged', finish(new, 'replaced', 'replaced', held.at, held.who)}
        end
        take_away(held)
        ended = finish(held, 'replaced', 'replaced', new.at, new.who)
    end
    put(new, ARGV[1] .. ' ' .. (held and held.upload or '-') .. '\\n' .. ARGV[2], SHELF, ARGV[5], ARGV[6])
    tell('staged', new.record, new.at, new.who)
    return {'staged', ended}
    """,
    changes=True,
)

# KEYS: the changed, then per upload its shelf. ARGV: reason, kind of event, when, who, clock in µs, then per upload:
# its id, its release, new revision, new revision of the names.
FORGET: Final = script(
    *_CHANGE,
    """
    for argument = 6, ARGV[1] ~= 'live' and #ARGV or 0, 4 do
        local upload, release = ARGV[argument], ARGV[argument + 1]
        local freeze = redis.call('HEXISTS', key.files, upload) == 1 and keeper(release, ARGV[5])
        if freeze and freeze.uploads:find(upload, 1, true) then return {'frozen', release, freeze.value} end
    end
    local ended, changed, argument = {'forgotten'}, false, 6
    for at = SHELF, #KEYS, SHELF_KEYS do
        local value = redis.call('HGET', key.files, ARGV[argument])
        if value and ARGV[1] ~= 'live' and is_live(ARGV[argument]) then
            -- It stays.
        elseif value then
            local file = open(value)
            drop(file, at, ARGV[argument + 2], ARGV[argument + 3])
            ended[#ended + 1] = finish(file, ARGV[1], ARGV[2], ARGV[3], ARGV[4])
            changed = true
        else
            local gone = redis.call('HGET', key.ended, ARGV[argument])
            if gone and ended_so(gone, ARGV[1], ARGV[3], ARGV[4]) then
                ended[#ended + 1] = gone  -- a repeat of this very call
            end
        end
        argument = argument + 4
    end
    if not changed then redis.call('SET', key.last_serial, redis.call('GET', key.last_serial) or '0') end
    return ended
    """,
    changes=True,
)

# KEYS: the changed. ARGV: uploads.
MARK_LIVE: Final = script(
    *_CHANGE,
    """
    redis.call('SET', key.last_serial, redis.call('GET', key.last_serial) or '0')
    for _, upload in ipairs(ARGV) do
        if redis.call('HEXISTS', key.files, upload) == 1 then redis.call('HSET', key.live, upload, 1) end
    end
    return {'marked'}
    """,
    changes=True,
)
