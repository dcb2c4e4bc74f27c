-- Have all pieces of a large change be valid, if nobody changed anything since it was thought out.
-- KEYS: the version, the stream of notes, the large change that came last, the pieces of this one.
-- ARGV: the version that it was thought out for, its own, how many notes are kept, the channel;
--       the change's name, how many pieces it has.
-- Answers 1 where it is valid, 0 where another was first or pieces have expired.
local version = redis.call('GET', KEYS[1]) or ''
if version == ARGV[2] then
  return 1 -- sent twice, because the first answer was lost
end
if version ~= ARGV[1] or redis.call('HLEN', KEYS[4]) ~= tonumber(ARGV[6]) then
  return 0
end
redis.call('PERSIST', KEYS[4])
redis.call('SET', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[3], 'name', ARGV[5], 'left', ARGV[6], 'by', '', 'till', 0)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'p', ARGV[5])
redis.pcall('PUBLISH', ARGV[4], '') -- who may not hear of it looks instead
return 1
