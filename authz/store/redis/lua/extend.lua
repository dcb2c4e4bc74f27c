-- The request still runs: it expires later, within its longest life. Whoever says so was let through, so
-- from now on no attempt takes it back.
-- ARGV  1 now  2 id  3 gateway  4 ttl  5 life
-- Answers 1 and the other shards that it lies in; 0: it is not open, or its slot may be another's by now.
local record = recall(ARGV[2], call('GET', name_of(ARGV[2])))
if objection(record, ARGV[3]) or record.phase ~= OPEN or record.late then
  return {0}
end
local slots = {}
for _, hold in ipairs(cmsgpack.unpack(record.packed)) do
  if hold[KIND] == CONCURRENCY and hold[AMOUNT] > 0 then
    local name = shard .. 'l:' .. hold[KEY]
    if not call('ZSCORE', name, record.id) then
      return {0}
    end
    slots[#slots + 1] = name
  end
end
local deadline = min(now + tonumber(ARGV[4]), record.created + tonumber(ARGV[5]))
local later = deadline > record.deadline
if later then
  record.deadline = deadline
end
if record.attempt ~= '' then
  record.attempt = ''
  remember(record)
elseif later then
  call('ZADD', open_ids, deadline, record.id)
  call('SETRANGE', name_of(record.id), DEADLINE_FROM, encode('<d', deadline))
end
if later then
  for _, name in ipairs(slots) do
    take_slot(name, record.id, deadline)
  end
end
return {1, record.elsewhere}
