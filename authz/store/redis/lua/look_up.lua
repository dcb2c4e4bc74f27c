-- Fields of many hashes of one shard in one answer: HGET of KEYS[n] and ARGV[n].
local found = {}
for n = 1, #KEYS do
  found[n] = redis.call('HGET', KEYS[n], ARGV[n])
end
return found
