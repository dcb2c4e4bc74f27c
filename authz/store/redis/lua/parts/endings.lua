-- How reservations end. What was held stays charged unless somebody tells what was used.

-- Bytes, which cmsgpack does not tell from text.
local function binary(bytes)
  return '\198' .. encode('>I4', #bytes) .. bytes
end

-- One end of one reservation, on its way into the ledger: the fields of `Closed` (authz/store/closed.py).
-- Without facts it is no entry there.
local function close(record, ended_at, note, expired, late)
  if record.facts == '' then
    return 0
  end
  local closed = '\152' .. cmsgpack.pack(record.id, record.gateway, record.created, ended_at)
    .. binary(record.facts) .. binary(note) .. cmsgpack.pack(expired, late)
  call('XADD', SHARD .. 'closed', '*', 'c', closed)
  return 1
end

-- The request runs no more, or so we must assume. Tells which counters hold less now.
local function release(record, holds, counters)
  local changed = {}
  for i, hold in ipairs(holds) do
    if hold[KIND] == CONCURRENCY then
      call('ZREM', counters[i].name, record.id)
    else
      changed[i] = give_up(hold, counters[i], counters[i].kind.mark_of_label(label_of(record, i)))
    end
  end
  return changed
end

-- Nobody told its end in time. Late ones beyond `most_late` are forgotten, the first to expire first.
-- Tells how many entries in the ledger that makes.
local function expire(record, most_late)
  record.phase = LATE_PHASE
  call('ZREM', OPEN_IDS, record.id)
  call('SETRANGE', name_of(record.id), PHASE_FROM, encode('<B', LATE_PHASE))
  call('PEXPIRE', name_of(record.id), forgotten_at(record) - now)
  local entries = close(record, record.deadline, '', true, false)
  local late = SHARD .. 'late'
  local count = call('RPUSH', late, record.id)
  call('PEXPIRE', late, LATE + LATE_GRAIN)
  while count > most_late do
    local oldest = name_of(call('LPOP', late))
    if call('GETRANGE', oldest, PHASE_FROM, PHASE_FROM) == encode('<B', LATE_PHASE) then
      call('DEL', oldest)
    end
    count = count - 1
  end
  return entries
end

-- End at most `most` of those that are over by now. Tells how many it looked at, and their entries in the ledger.
local function sweep(most, most_late)
  local over = call('ZRANGEBYSCORE', OPEN_IDS, '-inf', now - now % GRAIN - 1, 'LIMIT', 0, most)
  local entries = 0
  for _, id in ipairs(over) do
    local record = recall(id, call('GET', name_of(id)))
    if record and record.phase == OPEN then
      local holds = holds_of(record)
      local counters = load(holds)
      local changed = release(record, holds, counters)
      for i, counter in ipairs(counters) do
        if changed[i] then
          save_held(counter)
        end
      end
      entries = entries + expire(record, most_late)
    else
      call('ZREM', OPEN_IDS, id)
    end
  end
  return #over, entries
end

-- Give back what was held and not used, charge what was used and not held; a missing unit stays as held.
-- Tells which counters changed.
local function correct(record, holds, counters, actual)
  local changed = {}
  for i, hold in ipairs(holds) do
    local counter = counters[i]
    local unused = hold[AMOUNT] - (actual[hold[UNIT]] or hold[AMOUNT])
    if hold[KIND] ~= CONCURRENCY and unused ~= 0 and (counter.state or not counter.exists) then
      if unused < 0 then
        counter.state = counter.kind.owe(hold, counter.state, label_of(record, i), -unused)
        changed[i] = true
      elseif counter.state then
        changed[i] = counter.kind.refund(hold, counter.state, label_of(record, i), unused)
      end
    end
  end
  return changed
end
