"""The scripts of the lead: who rebuilds or reconciles, and the steps of a rebuild.

The lead is a lease whose value is the holder's random token, beside a count of the steps done under it. A step is done
only by the holder, only once, and only after all before it; so also when a replica that lacks some of them takes over.
"""

from typing import Final

from overlay.storage.redis_freeze_scripts import FREEZES
from overlay.storage.redis_scripts import named_keys, script
from overlay.storage.redis_stage_scripts import FILES

# KEYS: lease. ARGV: token, milliseconds.
TAKE_LEAD: Final = script(
    """
    if redis.call('GET', KEYS[1]) == ARGV[1] or redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
        return {'ok'}
    end
    return {'lost'}
    """,
    changes=False,
)

# KEYS: lease. ARGV: token, milliseconds.
RENEW_LEAD: Final = script(
    """
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lost'} end
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return {'ok'}
    """,
    changes=False,
)

# KEYS: lease. ARGV: token.
LEAVE_LEAD: Final = script(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return {'ok'}", changes=False
)

# KEYS: lease, a key. ARGV: token, the key's new value.
LEADERS_NOTE: Final = script(
    """
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lost'} end
    redis.call('SET', KEYS[2], ARGV[2])
    return {'ok'}
    """,
    changes=True,
)

# KEYS: ready, lease, steps. ARGV: token.
BEGIN_LOAD: Final = script(
    """
    if redis.call('GET', KEYS[2]) ~= ARGV[1] then return {'lost'} end
    redis.call('DEL', KEYS[1])
    redis.call('SET', KEYS[3], '0')
    return {'ok'}
    """,
    changes=False,
)

_STEP: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lost'} end
local done = tonumber(redis.call('GET', KEYS[2]) or '-1')
if done == tonumber(ARGV[2]) then return {'ok'} end
if done ~= ARGV[2] - 1 then return {'lost'} end
redis.call('SET', KEYS[2], ARGV[2])
"""

# KEYS: lease, steps, then what is to go. ARGV: token, number of the step.
CLEAR_STEP: Final = script(
    _STEP, "for at = 3, #KEYS do redis.call('UNLINK', KEYS[at]) end return {'ok'}", changes=False
)

# KEYS: lease, steps, the changed, then per file its shelf. ARGV: token, number of the step, then per file: its value, a
# revision, a revision of the names.
FILES_STEP: Final = script(
    named_keys(3),
    FILES,
    _STEP,
    """
    local argument = 3
    for at = SHELF, #KEYS, SHELF_KEYS do
        put(open(ARGV[argument]), ARGV[argument], at, ARGV[argument + 1], ARGV[argument + 2])
        argument = argument + 3
    end
    return {'ok'}
    """,
    changes=False,
)

# KEYS: lease, steps, tokens, token ids. ARGV: token, number of the step, then per token: sha256, id, the token.
TOKENS_STEP: Final = script(
    _STEP,
    """
    for at = 3, #ARGV, 3 do
        redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 2])
        redis.call('HSET', KEYS[4], ARGV[at + 1], ARGV[at])
    end
    return {'ok'}
    """,
    changes=False,
)

# KEYS: lease, steps, the changed. ARGV: token, number of the step, then per freeze: its promotion, its value.
FREEZES_STEP: Final = script(
    named_keys(3),
    FREEZES,
    _STEP,
    """
    for at = 3, #ARGV, 2 do add_freeze(ARGV[at], open_freeze(ARGV[at + 1])) end
    return {'ok'}
    """,
    changes=False,
)

# KEYS: lease, steps, live. ARGV: token, number of the step, then uploads.
LIVE_STEP: Final = script(
    _STEP,
    """
    for at = 3, #ARGV do redis.call('HSET', KEYS[3], ARGV[at], 1) end
    return {'ok'}
    """,
    changes=False,
)

# The count of events is there from the beginning on: while a cluster's slot is moved, no key that is missing is read.
# KEYS: lease, steps, ready, last serial, count of events. ARGV: token, number of the step, epoch, greatest serial.
FINISH_STEP: Final = script(
    _STEP,
    """
    local last = math.max(tonumber(redis.call('GET', KEYS[4]) or '0'), tonumber(ARGV[4]))
    redis.call('SET', KEYS[4], string.format('%.0f', last))
    redis.call('SET', KEYS[5], '0')
    redis.call('SET', KEYS[3], ARGV[3])
    return {'ok'}
    """,
    changes=True,
)
