-- What every script begins with.
-- KEYS[1] is `az:{shard}:open`; every other key is named after it, for a shard lies in one hash slot.
-- ARGV[1] is the time in ms, 0 for the server's own: only tests bring theirs.
-- Names in capitals are constants, which scripts.py puts in. A function costs something whenever a script
-- that has it is run, so a script has only what it needs, and each kind of counter is made where it is met.
-- A number is a double, exact up to 2^53 - 1 (MAX). `redis.call` and struct write one in full;
-- `..`, tostring and cjson keep 14 digits, so no number goes through them.
local call, floor, min, max = redis.call, math.floor, math.min, math.max
local encode, decode, cut = struct.pack, struct.unpack, string.sub

local open_ids = KEYS[1]
local shard = cut(open_ids, 1, -5)

local now = tonumber(ARGV[1])
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end

local function divided_up(number, by)
  local rest = number % by
  return rest == 0 and number / by or (number - rest) / by + 1
end
