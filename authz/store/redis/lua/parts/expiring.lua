-- Nobody told its end in time: what it held stays charged. Late ones beyond `most_late` are forgotten, the
-- first to expire first. Tells how many entries in the ledger that makes.
local function expire(record, most_late)
  local holds = holds_of(record)
  local counters = load(holds)
  call('ZREM', open_ids, record.id)
  for i, less in pairs(release(record, holds, counters)) do
    if less then
      save_held(counters[i])
    end
  end
  record.phase = LATE
  call('SETRANGE', name_of(record.id), PHASE_FROM, encode('<B', LATE))
  call('PEXPIRE', name_of(record.id), forgotten_at(record) - now)
  local late = shard .. 'late'
  local count = call('RPUSH', late, record.id)
  call('PEXPIRE', late, LATE_MS + LATE_GRAIN)
  while count > most_late do
    local oldest = name_of(call('LPOP', late))
    if call('GETRANGE', oldest, PHASE_FROM, PHASE_FROM) == encode('<B', LATE) then
      call('DEL', oldest)
    end
    count = count - 1
  end
  return close(record, record.deadline, '', true, false)
end
