-- The holds of a reservation, and where each was charged. What was owed when they were made is told by now.
local function holds_of(record)
  local holds = cmsgpack.unpack(record.packed)
  for _, hold in ipairs(holds) do
    hold[AMOUNT], hold[OWED] = min(MAX, hold[AMOUNT]), 0
  end
  return holds
end

local function label_of(record, i)
  if not record[i] then
    record[i] = {decode(LABEL, record.labels, (i - 1) * LABEL_SIZE + 1)}
  end
  return record[i]
end
