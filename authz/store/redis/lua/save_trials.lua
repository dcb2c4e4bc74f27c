-- Adds counts of limits on trial to those of their hour, and holds all of them to their number and age.
-- KEYS: counts (row -> 'would live first last'), rows by their hour, and what remembers that this was done.
-- ARGV: rows of hours before this one go; how many rows are kept; how many go at most in this step, for
--       each reason; after how long (ms) without a count all of it goes; how long (ms) what was done is
--       remembered; then for each row: its name, hour, would, live, first, last.
-- Answers nothing. Done once, however often it is sent.
local COUNTS, HOURS, DONE = KEYS[1], KEYS[2], KEYS[3]
if not redis.call('SET', DONE, '', 'PX', ARGV[5], 'NX') then
  return
end
for at = 6, #ARGV, 6 do
  local row, hour = ARGV[at], ARGV[at + 1]
  local would, live, first, last = unpack(ARGV, at + 2, at + 5)
  local before = redis.call('HGET', COUNTS, row)
  if before then
    local had = {}
    for number in string.gmatch(before, '%d+') do
      had[#had + 1] = tonumber(number)
    end
    would, live = had[1] + would, had[2] + live
    first, last = math.min(had[3], first), math.max(had[4], last)
  end
  redis.call('HSET', COUNTS, row, string.format('%.0f %.0f %.0f %.0f', would, live, first, last))
  redis.call('ZADD', HOURS, hour, row)
end

local step = tonumber(ARGV[3])
local function drop(rows)
  for _, row in ipairs(rows) do
    redis.call('HDEL', COUNTS, row)
    redis.call('ZREM', HOURS, row)
  end
end
drop(redis.call('ZRANGEBYSCORE', HOURS, '-inf', '(' .. ARGV[1], 'LIMIT', 0, step))
local over = math.min(redis.call('ZCARD', HOURS) - tonumber(ARGV[2]), step)
if over > 0 then
  drop(redis.call('ZRANGE', HOURS, 0, over - 1))
end
redis.call('PEXPIRE', COUNTS, ARGV[4])
redis.call('PEXPIRE', HOURS, ARGV[4])
