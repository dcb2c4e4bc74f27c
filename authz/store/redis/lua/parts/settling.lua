-- The kinds of counters, as far as settlements need them.
local kinds = {}

local function kind_of(hold)
  local number = hold[KIND]
  if not kinds[number] then
    kinds[number] = number == GCRA and settle_gcra(gcra())
      or number == SLIDING and settle_sliding(sliding()) or settle_aligned(aligned())
  end
  return kinds[number]
end
