-- Changes the ledger of a shard: all of it, if nobody changed it since this was thought out; else nothing.
-- KEYS: the ledger's `meta`, then every key that the commands write to.
-- ARGV: the turn that the change was thought out at, the turn that it makes; then the commands, each
--       as the number of its words and these words.
-- Answers 1 where the change is in force, 0 where another was first.
local turn = redis.call('HGET', KEYS[1], 'turn') or ''
if turn == ARGV[2] then
  return 1 -- sent twice, because the first answer was lost
end
if turn ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'turn', ARGV[2])
local word, last = 3, #ARGV
while word <= last do
  local count = tonumber(ARGV[word])
  redis.call(unpack(ARGV, word + 1, word + count))
  word = word + count + 1
end
return 1
