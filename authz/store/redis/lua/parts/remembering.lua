-- Keep a reservation, one that is open until somebody ends it.
local function remember(record)
  local encoded = encode(
    RECORD, record.phase, record.created, record.deadline, #record.gateway, record.gateway,
    #record.attempt, record.attempt, #record.elsewhere, record.elsewhere,
    #record.packed, record.packed, #record.labels, record.labels
  )
  local name = name_of(record.id)
  if record.phase == OPEN then
    call('SET', name, encoded .. record.facts)
    call('ZADD', open_ids, record.deadline, record.id)
  else
    call('SET', name, encoded .. record.facts, 'PX', max(1, forgotten_at(record) - now))
  end
end
