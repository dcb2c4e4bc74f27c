-- How counters stand, as an answer tells it: for each hold what remains beside what is owed, the ms until all
-- is free, what runs.
local function add_levels(answer, holds, counters, asked)
  local last = #answer
  for i, hold in ipairs(holds) do
    local counter = counters[i]
    local left, reset, running
    if hold[KIND] == CONCURRENCY then
      running = counter.running
      local latest = running > 0 and last_deadline(counter.name)
      left = hold[QUOTA] - hold[OWED] - running - (asked and hold[AMOUNT] > 0 and 1 or 0)
      reset = latest and max(0, latest - now) or 0
    else
      local used, mark
      used, reset, mark = kind_of(hold).stand(hold, counter.state)
      left, running = hold[QUOTA] - hold[OWED] - used, 0
      if counter.held > 0 and counter.mark == mark then
        running = min(counter.held, used, MAX)
      end
    end
    answer[last + 1], answer[last + 2], answer[last + 3] = max(0, left), reset, running
    last = last + 3
  end
  return answer
end
