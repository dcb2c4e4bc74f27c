-- When keys were last used: the latest that any replica saw.
-- KEYS: id -> ms. ARGV: id and ms, for each key.
for at = 1, #ARGV, 2 do
  local before = redis.call('HGET', KEYS[1], ARGV[at])
  if not before or tonumber(before) < tonumber(ARGV[at + 1]) then
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
end
