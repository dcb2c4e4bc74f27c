-- What a request's holds would do to the counters: the all of "all or nothing", before any of it is done.
-- An answer begins with one of these, the entries in the ledger that were made of what expired meanwhile,
-- the wait in ms (-1: never), and the number of indices that follow; then come the levels.
local DENIED, RESERVED, REPLAYED, JUMPED, TOO_FINE, FULL, CANCELLED = 0, 1, 2, 3, 4, 5, 6

-- Rolls every counter to now. Tells why it cannot be done.
local function view_all(holds, counters)
  for i, hold in ipairs(holds) do
    local counter = counters[i]
    if hold[KIND] == CONCURRENCY then
      counter.running = count_slots(counter.name)
    else
      counter.state = counter.kind.view(hold, counter.state)
      if not counter.state then
        return JUMPED
      elseif hold[KIND] == GCRA and gcra.too_fine(hold, counter.state) then
        return TOO_FINE
      end
    end
  end
end

-- The indices of the holds that do not fit, and of those in a trial that would not.
local function stage(holds, counters)
  local denied, over = {}, {}
  for i, hold in ipairs(holds) do
    local counter, fits = counters[i], nil
    if hold[KIND] == CONCURRENCY then
      fits = counter.running < hold[QUOTA]
    else
      fits = counter.kind.fits(hold, counter.state)
    end
    if hold[AMOUNT] > 0 and not fits then
      local list = hold[SHADOW] and over or denied
      list[#list + 1] = i - 1
    end
  end
  return denied, over
end

local function refusal(holds, counters, denied, entries)
  local wait, answer = 0, {DENIED, entries, 0, #denied}
  for place, index in ipairs(denied) do
    local hold, counter = holds[index + 1], counters[index + 1]
    local one = hold[KIND] == CONCURRENCY and wait_for_slot(hold, counter.name) or counter.kind.wait(hold, counter.state)
    wait = (one < 0 or wait < 0) and -1 or max(wait, one)
    answer[4 + place] = index
  end
  answer[3] = wait
  return add_levels(answer, holds, counters)
end

local function admission(status, holds, counters, over, entries, asked)
  return add_levels({status, entries, 0, #over, unpack(over)}, holds, counters, asked)
end
