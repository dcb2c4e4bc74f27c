-- A change of the records: all of it, if nobody changed anything since it was thought out; else nothing.
-- KEYS: the version, the stream of notes, then every place that the commands write to.
-- ARGV: the version that the change was thought out for, its own, how many notes are kept, the channel;
--       in msgpack {{command, place, {argument, ...}}, ...}, and the note.
-- Answers 1 where the change is in force, 0 where another was first.
local version = redis.call('GET', KEYS[1]) or ''
if version == ARGV[2] then
  return 1 -- sent twice, because the first answer was lost
end
if version ~= ARGV[1] then
  return 0
end
local commands = cmsgpack.unpack(ARGV[5])
redis.call('SET', KEYS[1], ARGV[2])
for _, command in ipairs(commands) do
  redis.call(command[1], command[2], unpack(command[3]))
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'n', ARGV[6])
redis.pcall('PUBLISH', ARGV[4], '') -- who may not hear of it looks instead
return 1
