-- The request runs no more, or so we must assume. Tells which counters hold less now.
local function release(record, holds, counters)
  local changed = {}
  for i, hold in ipairs(holds) do
    if hold[KIND] == CONCURRENCY then
      call('ZREM', counters[i].name, record.id)
    else
      changed[i] = give_up(hold, counters[i], label_of(record, i))
    end
  end
  return changed
end
