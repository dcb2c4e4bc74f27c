-- Refusals into the log, each new or grown, and one bounded step to hold it to its size and age.
-- KEYS: rows (name -> msgpack {ids, body}), names by the time of their latest, those without a user
--       likewise, names by request id.
-- ARGV: rows older than this (ms) go; how many rows are kept; how many without a user; how many go at most
--       in this step, for each of these reasons; after how long (ms) without a refusal all of it goes;
--       then for each row: name, time of its latest, '1' where it has no user, ids in msgpack, the row.
-- Answers whether there is more to drop (1 or 0).
local ROWS, TIMES, NOBODYS, IDS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local step = tonumber(ARGV[4])

local function forget_ids(name)
  local row = redis.call('HGET', ROWS, name)
  if row then
    for _, id in ipairs(cmsgpack.unpack(row)[1]) do
      if redis.call('HGET', IDS, id) == name then -- else it is another's meanwhile
        redis.call('HDEL', IDS, id)
      end
    end
  end
end

for at = 6, #ARGV, 5 do
  local name, latest, row = ARGV[at], ARGV[at + 1], ARGV[at + 4]
  forget_ids(name)
  redis.call('HSET', ROWS, name, row)
  redis.call('ZADD', TIMES, latest, name)
  if ARGV[at + 2] == '1' then
    redis.call('ZADD', NOBODYS, latest, name)
  end
  for _, id in ipairs(cmsgpack.unpack(ARGV[at + 3])) do
    redis.call('HSET', IDS, id, name)
  end
end

local function drop(names)
  for _, name in ipairs(names) do
    forget_ids(name)
    redis.call('HDEL', ROWS, name)
    redis.call('ZREM', TIMES, name)
    redis.call('ZREM', NOBODYS, name)
  end
  return #names == step
end

local function oldest(place, kept)
  local over = math.min(redis.call('ZCARD', place) - tonumber(kept), step)
  return over > 0 and redis.call('ZRANGE', place, 0, over - 1) or {}
end

local is_more = drop(redis.call('ZRANGEBYSCORE', TIMES, '-inf', '(' .. ARGV[1], 'LIMIT', 0, step))
is_more = drop(oldest(NOBODYS, ARGV[3])) or is_more
is_more = drop(oldest(TIMES, ARGV[2])) or is_more
for _, place in ipairs(KEYS) do
  redis.call('PEXPIRE', place, ARGV[5])
end
return is_more and 1 or 0
