-- What is remembered of a reservation: phase, when it was made, its deadline; whose it is, which attempt made
-- it, in which other shards the rest of it lies; its holds and their labels; the facts for the ledger.
-- A label is three numbers that say where a hold was charged. Of a settled one there is only the phase, until
-- when that is known, and the gateway. Without an `attempt` no attempt takes it back.

local function name_of(id)
  return shard .. 'r:' .. id
end

-- From when on it is as if it had never been. An open one lasts until somebody ends it: the ledger wants it.
local function forgotten_at(record)
  if record.phase == BRIEF then
    return (floor((record.created + REPLAY) / GRAIN) + 1) * GRAIN
  elseif record.phase == LATE then
    return (floor((record.deadline + LATE_MS) / LATE_GRAIN) + 1) * LATE_GRAIN
  end
  return MAX
end

local function recall(id, raw)
  if not raw then
    return nil
  end
  local phase, moment, from = decode('<Bd', raw)
  if phase == SETTLED then
    return now < moment and {id = id, phase = phase, gateway = cut(raw, from)} or nil
  end
  local created, deadline, gateway, attempt, elsewhere, packed, labels
  phase, created, deadline, gateway, attempt, elsewhere, packed, labels, from = decode(RECORD, raw)
  local record = {
    id = id, phase = phase, created = created, deadline = deadline, gateway = gateway, attempt = attempt,
    elsewhere = elsewhere, packed = packed, labels = labels, facts = cut(raw, from),
    late = phase == LATE or now >= deadline,
  }
  return now < forgotten_at(record) and record or nil
end
