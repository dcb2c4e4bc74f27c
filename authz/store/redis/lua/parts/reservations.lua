-- What is remembered of a reservation: phase, when it was made, its deadline; whose it is, which attempt made
-- it, in which other shards the rest of it lies; its holds and their labels; the facts for the ledger.
-- A label is three numbers that say where a hold was charged. Of a settled one there is only the phase, until
-- when that is known, and the gateway. Without an `attempt` no attempt takes it back.
local BRIEF, OPEN, LATE_PHASE, SETTLED_PHASE = 0, 1, 2, 3
local RECORD, LABEL, LABEL_SIZE = '<BddI2c0I2c0I2c0I4c0I4c0', '<ddd', 24
local PHASE_FROM, DEADLINE_FROM = 0, 9
local UNKNOWN, SETTLED_NOW, CORRECTED, ALREADY, FOREIGN, REMEMBERED = 0, 1, 2, 3, 4, 5

local function name_of(id)
  return SHARD .. 'r:' .. id
end

-- Another attempt under an id that is in use: nobody is told this one.
local function another(id, attempt)
  return id .. '~' .. attempt
end

local function grain_after(moment, grain)
  return (floor(moment / grain) + 1) * grain
end

-- From when on it is as if it had never been. An open one lasts until somebody ends it: it is owed to the ledger.
local function forgotten_at(record)
  if record.phase == BRIEF then
    return grain_after(record.created + REPLAY, GRAIN)
  elseif record.phase == LATE_PHASE then
    return grain_after(record.deadline + LATE, LATE_GRAIN)
  end
  return MAX
end

local function recall(id, raw)
  if not raw then
    return nil
  end
  local phase, moment, from = decode('<Bd', raw)
  if phase == SETTLED_PHASE then
    return now < moment and {id = id, phase = phase, gateway = cut(raw, from)} or nil
  end
  local record = {id = id}
  record.phase, record.created, record.deadline, record.gateway, record.attempt, record.elsewhere,
    record.packed, record.labels, from = decode(RECORD, raw)
  record.facts = cut(raw, from)
  record.late = record.phase == LATE_PHASE or now >= record.deadline
  return now < forgotten_at(record) and record or nil
end

local function remember(record)
  local encoded = encode(
    RECORD, record.phase, record.created, record.deadline, #record.gateway, record.gateway, #record.attempt,
    record.attempt, #record.elsewhere, record.elsewhere, #record.packed, record.packed, #record.labels, record.labels
  )
  local name = name_of(record.id)
  call('SET', name, encoded .. record.facts)
  if record.phase == OPEN then
    call('ZADD', OPEN_IDS, record.deadline, record.id)
  else
    call('PEXPIRE', name, forgotten_at(record) - now)
  end
end

-- Only that it was settled, and by whom.
local function remember_settled(record)
  local encoded = encode('<Bd', SETTLED_PHASE, now + SETTLED) .. record.gateway
  call('SET', name_of(record.id), encoded, 'PX', SETTLED)
end

-- Why it cannot be settled now; nil: it can.
local function objection(record, gateway)
  if not record then
    return UNKNOWN
  elseif record.gateway ~= gateway then
    return FOREIGN
  elseif record.phase == SETTLED_PHASE then
    return ALREADY
  elseif now >= record.deadline + LATE then
    return UNKNOWN
  end
end

local function holds_of(record)
  local holds = cmsgpack.unpack(record.packed)
  for _, hold in ipairs(holds) do
    hold[AMOUNT] = min(MAX, hold[AMOUNT])
  end
  return holds
end

local function label_of(record, i)
  return {decode(LABEL, record.labels, (i - 1) * LABEL_SIZE + 1)}
end
