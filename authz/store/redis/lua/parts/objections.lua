-- Why a reservation cannot be settled now; nil: it can.
local function objection(record, gateway)
  if not record then
    return UNKNOWN
  elseif record.gateway ~= gateway then
    return FOREIGN
  elseif record.phase == SETTLED then
    return ALREADY
  elseif now >= record.deadline + LATE_MS then
    return UNKNOWN
  end
end
