"""The scripts of freezes, and the Lua by which all that change what is staged, and a load, know them.

A stored freeze is `fence durable until stage` (durable is 0 or 1, `until` µs since the epoch); then, a line each, the
holder and who it is (both as JSON), the uploads joined by spaces, the releases joined by commas; then the Freeze as
JSON, of which only what never changes is read. A release is `project version`, the version canonical, so that equal
ones are one; so it is the field of `frozen`, which says whose it is, and in a freeze its spelling stands behind it. One
that holds no more is taken away, and told to have ended, by whoever meets it.

Each event is told where the freeze changes, after the write that may be refused; so a repeat tells nothing.
"""

from typing import Final

from overlay.storage.redis_scripts import CHECK_READY, named_keys, script

EVENTS_HELD: Final = 1000

_ADD_EVENT: Final = f"""
-- `who` is JSON, `about` the member of an object that says what the event is about.
local function add_event(kind, when, who, about)
    redis.call('RPUSH', key.events,
        '{{"kind":"' .. kind .. '","at_us":' .. when .. ',"who":' .. who .. ',' .. about .. '}}')
    redis.call('LTRIM', key.events, -{EVENTS_HELD}, -1)
    redis.call('INCR', key.events_made)
end
"""

FREEZES: Final = (
    _ADD_EVENT
    + """
local function open_freeze(value)
    local fence, durable, ends, stage, holder, who, uploads, releases, rest = string.match(value,
        '^(%d+) (%d) (%d+) (%S+)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n(.*)$')
    return {fence = fence, durable = durable, ends = ends, stage = stage, holder = holder, who = who,
            uploads = uploads, releases = releases, rest = rest, value = value}
end

local function fields(freeze)
    return freeze.releases:gmatch('([^ ,]+ [^ ,]+) [^,]+')
end

-- Of each of its releases, in which nothing needs quoting.
local function tell_freeze(kind, id, freeze, when, who)
    for project, version in freeze.releases:gmatch('([^ ,]+) [^ ,]+ ([^,]+)') do
        add_event(kind, when, who, '"release":{"promotion":"' .. id .. '","stage":"' .. freeze.stage
            .. '","project":"' .. project .. '","version":"' .. version .. '"}')
    end
end

local function write_freeze(id, freeze)
    local head = table.concat({freeze.fence, freeze.durable, freeze.ends, freeze.stage}, ' ')
    local value = table.concat({head, freeze.holder, freeze.who, freeze.uploads, freeze.releases, freeze.rest}, '\\n')
    redis.call('HSET', key.freezes, id, value)
    return value
end

local function add_freeze(id, freeze)
    for release in fields(freeze) do redis.call('HSET', key.frozen, release, id) end
    return write_freeze(id, freeze)
end

local function drop_freeze(id, freeze, kind, when, who)
    redis.call('HDEL', key.freezes, id)
    for release in fields(freeze) do redis.call('HDEL', key.frozen, release) end
    tell_freeze(kind, id, freeze, when, who)
end

-- One that nobody ended.
local function lapse(id, freeze, now)
    drop_freeze(id, freeze, 'abandoned', now, freeze.who)
end

local function raise_fence(freeze, least)
    freeze.fence = string.format('%.0f', math.max(tonumber(freeze.fence), tonumber(least)))
end

local function holds(freeze, now)
    return freeze.durable == '1' or tonumber(now) < tonumber(freeze.ends)
end

-- The promotion's freeze, if it holds.
local function freeze_of(id, now)
    local value = redis.call('HGET', key.freezes, id)
    local freeze = value and open_freeze(value)
    if freeze and not holds(freeze, now) then
        lapse(id, freeze, now)
        return false
    end
    return freeze
end

-- The freeze that keeps a release as it is, if any does.
local function keeper(release, now)
    local id = redis.call('HGET', key.frozen, release)
    return id and freeze_of(id, now)
end
"""
)

_CHANGE: Final = (CHECK_READY, named_keys(1), FREEZES)

# KEYS: the changed. ARGV: promotion, the new freeze, whether its uploads are those of its releases, clock in µs.
FREEZE: Final = script(
    *_CHANGE,
    """
    local id, wanted, now = ARGV[1], open_freeze(ARGV[2]), ARGV[4]
    for _, other in ipairs(redis.call('HKEYS', key.freezes)) do freeze_of(other, now) end
    local present = freeze_of(id, now)
    if present then
        if present.holder == wanted.holder then
            if tonumber(wanted.ends) > tonumber(present.ends) then present.ends = wanted.ends end
            if wanted.durable == '1' then present.durable = '1' end
            raise_fence(present, wanted.fence)
        elseif tonumber(now) < tonumber(present.ends) then
            return {'running', present.value}
        else
            present.holder, present.who, present.ends = wanted.holder, wanted.who, wanted.ends
            raise_fence(present, present.fence + 1)
            raise_fence(present, wanted.fence)
            local value = write_freeze(id, present)
            tell_freeze('resumed', id, present, now, present.who)
            return {'frozen', value}
        end
        return {'frozen', write_freeze(id, present)}
    end
    for release in fields(wanted) do
        local other = keeper(release, now)
        if other then return {'kept', release, other.value} end
    end
    if wanted.durable == '0' then
        if ARGV[3] ~= '1' then return {'changed'} end
        for upload in wanted.uploads:gmatch('%S+') do
            if redis.call('HEXISTS', key.files, upload) == 0 then return {'changed'} end
        end
    end
    local value = add_freeze(id, wanted)
    tell_freeze('promoting', id, wanted, now, wanted.who)
    return {'frozen', value}
    """,
    changes=True,
)

# KEYS: the changed. ARGV: promotion, fence, until, whether it is to be durable, clock in µs.
RENEW: Final = script(
    *_CHANGE,
    """
    local id, ends = ARGV[1], ARGV[3]
    local value = redis.call('HGET', key.freezes, id)
    local freeze = value and open_freeze(value)
    if not freeze or freeze.fence ~= ARGV[2] then return {'overtaken'} end
    if freeze.durable == '0' then
        local ended_again = freeze.ends == '0' and ends == '0' and ARGV[4] == '0'
        local over = not holds(freeze, ARGV[5]) and not ended_again
        for upload in freeze.uploads:gmatch('%S+') do
            over = over or redis.call('HEXISTS', key.files, upload) == 0
        end
        if over then
            lapse(id, freeze, ARGV[5])
            return {'overtaken'}
        end
    end
    if ends == '0' or tonumber(ends) > tonumber(freeze.ends) then freeze.ends = ends end
    if ARGV[4] == '1' then freeze.durable = '1' end
    return {'renewed', write_freeze(id, freeze)}
    """,
    changes=True,
)

# KEYS: the changed. ARGV: promotion, clock in µs.
OVERTAKE: Final = script(
    *_CHANGE,
    """
    local freeze = freeze_of(ARGV[1], ARGV[2])
    if freeze then
        raise_fence(freeze, freeze.fence + 1)
        freeze.ends = '0'
        write_freeze(ARGV[1], freeze)
    else
        redis.call('SET', key.last_serial, redis.call('GET', key.last_serial) or '0')
    end
    return {freeze and freeze.durable == '1' and 'left' or 'gone'}
    """,
    changes=True,
)

# KEYS: the changed. ARGV: promotion, kind of event, when, who, whether a durable one stays.
THAW: Final = script(
    *_CHANGE,
    """
    local value = redis.call('HGET', key.freezes, ARGV[1])
    local freeze = value and open_freeze(value)
    if freeze and freeze.durable == '1' and ARGV[5] == '1' then
        write_freeze(ARGV[1], freeze)
        return {'kept'}
    end
    if freeze then
        drop_freeze(ARGV[1], freeze, ARGV[2], ARGV[3], ARGV[4])
    else
        redis.call('SET', key.last_serial, redis.call('GET', key.last_serial) or '0')
    end
    return {'thawed'}
    """,
    changes=True,
)
