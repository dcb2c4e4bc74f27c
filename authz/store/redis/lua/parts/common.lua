-- What every script begins with.
-- KEYS[1] is `az:{shard}:open`; every other key is named after it, for a shard lies in one hash slot.
-- ARGV[1] is the time in ms, 0 for the server's own: only tests bring theirs.
-- A number is a double, exact up to 2^53 - 1 (MAX). `redis.call` and struct write one in full;
-- `..`, tostring and cjson keep 14 digits, so no number goes through them.
local call, floor, min, max = redis.call, math.floor, math.min, math.max
local encode, decode, cut = struct.pack, struct.unpack, string.sub

local OPEN_IDS = KEYS[1]
local SHARD = cut(OPEN_IDS, 1, -5)

local now = tonumber(ARGV[1])
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end

-- A hold as msgpack has it: the fields of `Hold` (authz/store/protocols.py) in their order.
local KEY, KIND, UNIT, QUOTA, AMOUNT, WINDOW, RATE, BOUNDS, SHADOW = 1, 2, 3, 4, 5, 6, 7, 8, 9
local GCRA, FIXED, SLIDING, CALENDAR, CONCURRENCY = 0, 1, 2, 3, 4

local function divided_up(number, by)
  local rest = number % by
  return rest == 0 and number / by or (number - rest) / by + 1
end
