-- One piece of a large change, put where nobody reads it: whoever stages it may die.
-- KEYS: the large change that came last, the pieces of this one.
-- ARGV: the name of this one, the number of the piece, the piece, for how many ms it is kept.
if redis.call('HGET', KEYS[1], 'name') ~= ARGV[1] then -- else this was sent twice, and is valid already
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
