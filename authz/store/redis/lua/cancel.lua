-- Take an attempt back that nobody waited for, as if it had never been; if it has not come yet, it does
-- nothing when it comes. Only what this attempt made: an earlier one under the same id may run.
-- ARGV  1 now  2 id  3 attempt  4 ms that the attempt may still come
-- What is not remembered (requests alone that nobody settles) stays charged.
local id, attempt = ARGV[2], ARGV[3]
local another = id .. '~' .. attempt
local first, second = unpack(call('MGET', name_of(another), name_of(id)))
local record = recall(another, first) or recall(id, second)
if not record or record.attempt ~= attempt or record.phase == LATE then
  call('SET', shard .. 'x:' .. attempt, '', 'PX', tonumber(ARGV[4]))
  return 0
end
local holds, nothing = holds_of(record), {}
for _, hold in ipairs(holds) do
  nothing[hold[UNIT]] = 0
end
local counters = load(holds)
call('ZREM', open_ids, record.id)
call('DEL', name_of(record.id))
local less_held = record.phase == OPEN and release(record, holds, counters) or {}
local changed = correct(record, holds, counters, nothing)
for i, hold in ipairs(holds) do
  if changed[i] then
    save(hold, counters[i])
  elseif less_held[i] then
    save_held(counters[i])
  end
end
return 1
