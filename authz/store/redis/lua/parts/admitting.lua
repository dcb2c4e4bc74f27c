-- The kinds of counters, as far as admissions need them.
local kinds = {}

local function kind_of(hold)
  local number = hold[KIND]
  if not kinds[number] then
    kinds[number] = number == GCRA and gcra() or number == SLIDING and sliding() or aligned()
  end
  return kinds[number]
end
