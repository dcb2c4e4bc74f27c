-- Write one piece of a large change that is valid to where the records are.
-- KEYS: the large change that came last, its pieces, then every place that pieces write to.
-- ARGV: its name, who asks, for how many ms nobody else writes after it, for how many ms the pieces are kept at the end.
-- Answers how many are left; -1: it is not the last any more; -2: another is at it; -3: the piece is gone.
local found = redis.call('HMGET', KEYS[1], 'name', 'left', 'by', 'till')
local left = tonumber(found[2])
if found[1] ~= ARGV[1] then
  return -1
elseif left == 0 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if found[3] and found[3] ~= ARGV[2] and now < tonumber(found[4]) then
  return -2
end
local piece = redis.call('HGET', KEYS[2], left)
-- A write that is not refused where memory is short: so nothing is that follows (Redis, scriptVerifyOOM).
redis.call('PERSIST', KEYS[2])
if not piece then
  redis.call('HSET', KEYS[1], 'left', 0)
  return -3
end
for _, command in ipairs(cmsgpack.unpack(piece)) do
  redis.call(command[1], command[2], unpack(command[3]))
end
left = left - 1
redis.call('HSET', KEYS[1], 'left', left, 'by', ARGV[2], 'till', string.format('%.0f', now + ARGV[3]))
if left == 0 then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return left
