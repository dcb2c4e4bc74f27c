-- Windows that begin and end at set moments, fixed and calendar: authz/store/counting/aligned.py.
-- `finish` is the end of the window, `after` that of the next one: `finish` where it is not known, and 0
-- where not even that is. `debt` is the part of `used` that came in beyond its holds.
local function aligned()
  -- The start of the one before, the start, the end and the next end of the window that holds `now`; nil:
  -- the caller's calendar does not know it.
  local function window_of(hold)
    if hold[KIND] == FIXED then
      local length = hold[WINDOW]
      local start = now - now % length
      return start - length, start, start + length, start + 2 * length
    end
    local before, start, finish, after = unpack(hold[BOUNDS])
    if start <= now and now < finish then
      return before, start, finish, after
    elseif before <= now and now < start then
      return before, before, start, finish
    elseif finish <= now and now < after then
      return start, finish, after, after
    end
  end

  -- What of the debt stands above the quota, up to one quota.
  local function carried(hold, state)
    return min(hold[QUOTA], state.debt, max(0, state.used - hold[QUOTA]))
  end

  local function read(raw)
    local start, finish, after, used, debt = decode('<ddddd', raw, BODY)
    return {start = start, finish = finish, after = after, used = used, debt = debt}
  end

  local function write(hold, state)
    local spent_at = state.finish
    if state.after > state.finish then
      spent_at = state.debt > 0 and state.after or spent_at
    else -- a border is not known
      spent_at = spent_at + LONGEST
    end
    return encode('<ddddd', state.start, state.finish, state.after, state.used, state.debt), spent_at
  end

  local function view(hold, state)
    if state and state.start <= now and now < state.finish then
      return state
    end
    local before, start, finish, after = window_of(hold)
    if not before then
      return nil
    end
    local used, debt = 0, 0
    if state and start <= state.start then
      if now < state.finish then -- the clock stepped back
        return state
      end
      used, debt = state.used, state.debt -- the calendar was changed, or where it ends was not known
    elseif state and (state.finish == start or state.start == before) then
      used = carried(hold, state)
      debt = used
    end
    return {start = start, finish = finish, after = after, used = used, debt = debt}
  end

  local function fits(hold, state)
    return hold[AMOUNT] <= hold[QUOTA] - hold[OWED] - state.used
  end

  -- And the label of what is charged.
  local function charge(state, amount)
    state.used = min(MAX, state.used + amount)
    return state.start, state.finish, state.after
  end

  local function stand(hold, state)
    return state.used, max(0, state.finish - now), state.start
  end

  local function wait(hold, state)
    return hold[AMOUNT] > hold[QUOTA] - hold[OWED] and -1 or max(1, state.finish - now)
  end

  return {
    read = read, write = write, view = view, fits = fits, charge = charge, stand = stand, wait = wait,
    carried = carried,
  }
end
