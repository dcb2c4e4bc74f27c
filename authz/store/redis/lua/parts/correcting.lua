-- Give back what was held and not used, charge what was used and not held; a missing unit stays as held.
-- Tells which counters changed. Of a lot `actual.lot` has what it was for each hold.
local function correct(record, holds, counters, actual)
  local changed, lot = {}, actual.lot or {}
  for i, hold in ipairs(holds) do
    local counter = counters[i]
    local unused = hold[AMOUNT] - (actual[hold[UNIT]] or hold[AMOUNT])
    if hold[KIND] ~= CONCURRENCY and unused ~= 0 and (counter.state or not counter.exists) then
      if unused < 0 then
        counter.state = kind_of(hold).owe(hold, counter.state, label_of(record, i), -unused)
        changed[i] = true
      elseif counter.state then
        changed[i] = kind_of(hold).refund(hold, counter.state, label_of(record, i), unused, lot[i])
      end
    end
  end
  return changed
end
