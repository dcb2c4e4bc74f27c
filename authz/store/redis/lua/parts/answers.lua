-- How counters stand, as an answer tells it: for each hold what remains, the ms until all is free, what runs.

local function add_levels(answer, holds, counters, asked)
  local last = #answer
  for i, hold in ipairs(holds) do
    local counter, left, reset, running = counters[i], nil, nil, nil
    if hold[KIND] == CONCURRENCY then
      running = counter.running
      left = hold[QUOTA] - running - (asked and hold[AMOUNT] > 0 and 1 or 0)
      reset = slots_reset(counter.name)
    else
      local kind, state = counter.kind, counter.state
      local used = kind.used(state)
      left, reset = hold[QUOTA] - used, kind.reset(hold, state)
      running = counter.held > 0 and counter.mark == kind.mark(state) and min(counter.held, used, MAX) or 0
    end
    answer[last + 1], answer[last + 2], answer[last + 3] = max(0, left), reset, running
    last = last + 3
  end
  return answer
end
