-- What a request's holds would do to the counters: the all of "all or nothing", before any of it is done.
-- An answer begins with a status, the entries in the ledger that were made of what expired meanwhile,
-- the wait in ms (-1: never), and the number of indices that follow; then come the levels.

-- Rolls every counter to now. Tells why it cannot be done. Where nothing is said of what is owed, nothing is.
local function view_all(holds, counters)
  for i, hold in ipairs(holds) do
    local counter = counters[i]
    hold[OWED] = hold[OWED] or 0
    if hold[KIND] == CONCURRENCY then
      -- Slots that are over are given up: a clock that steps back brings none to life again.
      local all = call('ZCARD', counter.name)
      local over = all > 0 and call('ZCOUNT', counter.name, '-inf', now) or 0
      if over > 0 then
        call('ZREMRANGEBYSCORE', counter.name, '-inf', now)
      end
      counter.running = all - over
    else
      counter.state = kind_of(hold).view(hold, counter.state)
      if not counter.state then
        return JUMPED
      elseif hold[KIND] == GCRA and hold[QUOTA] * counter.state.p > FINEST then
        return TOO_FINE
      end
    end
  end
end

-- The indices of the holds that do not fit, and of those in a trial that would not.
local function stage(holds, counters)
  local denied, over = {}, {}
  for i, hold in ipairs(holds) do
    local fits
    if hold[KIND] == CONCURRENCY then
      fits = counters[i].running < hold[QUOTA] - hold[OWED]
    else
      fits = kind_of(hold).fits(hold, counters[i].state)
    end
    if hold[AMOUNT] > 0 and not fits then
      local list = hold[SHADOW] and over or denied
      list[#list + 1] = i - 1
    end
  end
  return denied, over
end

local function refusal(holds, counters, denied, entries)
  local function wait_of(hold, counter)
    if hold[KIND] ~= CONCURRENCY then
      return kind_of(hold).wait(hold, counter.state)
    elseif hold[QUOTA] - hold[OWED] <= 0 then
      return -1
    end
    return max(1, tonumber(call('ZRANGE', counter.name, 0, 0, 'WITHSCORES')[2]) - now)
  end

  local longest, answer = 0, {DENIED, entries, 0, #denied}
  for place, index in ipairs(denied) do
    local wait = wait_of(holds[index + 1], counters[index + 1])
    longest = (wait < 0 or longest < 0) and -1 or max(longest, wait)
    answer[4 + place] = index
  end
  answer[3] = longest
  return add_levels(answer, holds, counters)
end

local function admission(status, holds, counters, over, entries, asked)
  return add_levels({status, entries, 0, #over, unpack(over)}, holds, counters, asked)
end
