-- End at most `most` of those that are over by now. Tells how many it looked at, and how many entries in the
-- ledger that makes.
local function sweep(most, most_late)
  local over = call('ZRANGEBYSCORE', open_ids, '-inf', now - now % GRAIN - 1, 'LIMIT', 0, most)
  local entries = 0
  for _, id in ipairs(over) do
    local record = recall(id, call('GET', name_of(id)))
    if record and record.phase == OPEN then
      entries = entries + expire(record, most_late)
    else
      call('ZREM', open_ids, id)
    end
  end
  return #over, entries
end
