-- Charge what was used instead of what was held, once.
-- ARGV  1 now  2 id  3 gateway  4 what was used by unit (msgpack)  5 note
-- Answers the outcome; where it changed something, the entries in the ledger made of its expiry, the other
-- shards that it lies in, its holds (msgpack), and the levels of those that are no slots.
local record = recall(ARGV[2], call('GET', name_of(ARGV[2])))
local outcome = objection(record, ARGV[3])
if outcome then
  return {outcome}
end
local holds, entries, less_held = holds_of(record), 0, {}
local counters = load(holds)

-- The first write takes no memory, so that a server that is full lets all of it through.
if record.phase == OPEN then
  call('ZREM', open_ids, record.id)
  less_held = release(record, holds, counters)
  if record.late then -- nobody had looked yet
    entries = close(record, record.deadline, '', true, false)
  end
end
call('SET', name_of(record.id), encode('<Bd', SETTLED, now + SETTLED_MS) .. record.gateway, 'PX', SETTLED_MS)
close(record, now, ARGV[5], false, record.late)
local changed = correct(record, holds, counters, cmsgpack.unpack(ARGV[4]))
local shown, shown_counters = {}, {}
for i, hold in ipairs(holds) do
  local counter = counters[i]
  if changed[i] then
    save(hold, counter)
  elseif less_held[i] then
    save_held(counter)
  end
  if hold[KIND] ~= CONCURRENCY then
    counter.state = kind_of(hold).current(hold, counter.state, label_of(record, i))
    shown[#shown + 1], shown_counters[#shown_counters + 1] = hold, counter
  end
end
local answer = {record.late and CORRECTED or IN_TIME, entries, record.elsewhere, record.packed}
return add_levels(answer, shown, shown_counters)
