-- Windows that begin and end at set moments, fixed and calendar: authz/store/counting/aligned.py.
-- `finish` is the end of the window, `after` that of the next one: `finish` where it is not known, and 0
-- where not even that is. `debt` is the part of `used` that came in beyond its holds.
local aligned = {}

-- The start of the one before, the start, the end and the next end of the window that holds `now`; nil: the
-- caller's calendar does not know it.
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

local function holds_now(state)
  return state ~= nil and state.start <= now and now < state.finish
end

-- What of the debt stands above the quota, up to one quota.
local function carried(hold, state)
  return min(hold[QUOTA], state.debt, max(0, state.used - hold[QUOTA]))
end

function aligned.read(raw, from)
  local start, finish, after, used, debt = decode('<ddddd', raw, from)
  return {start = start, finish = finish, after = after, used = used, debt = debt}
end

function aligned.write(state)
  return encode('<ddddd', state.start, state.finish, state.after, state.used, state.debt)
end

function aligned.label(state)
  return state.start, state.finish, state.after
end

function aligned.view(hold, state)
  if holds_now(state) then
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

-- An end that was only made up, for want of a border, is none.
local function known_finish(finish, after)
  return after ~= 0 and finish or 0
end

-- `view`, long after the hold was made: of a calendar only the borders met so far are known.
-- A window whose end is beyond them is closed at once, with no next end.
function aligned.current(hold, state, label)
  if hold[KIND] == FIXED then
    return aligned.view(hold, state)
  elseif holds_now(state) then
    return state
  end
  local at = max(now, label[1], state and state.start or 0)
  local borders = {label[1], known_finish(label[2], label[3]), label[3], unpack(hold[BOUNDS])}
  if state then
    borders[8], borders[9], borders[10] = state.start, known_finish(state.finish, state.after), state.after
  end
  local start, finish, after = 0, nil, nil
  for _, border in ipairs(borders) do
    if border <= at and border > start then
      start = border
    end
  end
  if state and state.start == start then
    return state
  end
  for _, border in ipairs(borders) do
    if border > start and (not finish or border < finish) then
      finish = border
    end
  end
  for _, border in ipairs(borders) do
    if finish and border > finish and (not after or border < after) then
      after = border
    end
  end
  if not finish then
    finish, after = at + 1, 0
  end
  local carry = state and state.finish == start and carried(hold, state) or 0
  return {start = start, finish = finish, after = after or finish, used = carry, debt = carry}
end

function aligned.fits(hold, state)
  return hold[AMOUNT] <= hold[QUOTA] - state.used
end

function aligned.charge(hold, state)
  state.used = min(MAX, state.used + hold[AMOUNT])
end

function aligned.used(state)
  return state.used
end

function aligned.wait(hold, state)
  return hold[AMOUNT] > hold[QUOTA] and -1 or max(1, state.finish - now)
end

function aligned.reset(hold, state)
  return max(0, state.finish - now)
end

function aligned.refund(hold, state, label, amount)
  if state.start ~= label[1] or now >= state.finish then
    return false
  end
  state.used = max(0, state.used - amount)
  return true
end

function aligned.owe(hold, state, label, amount)
  state = aligned.current(hold, state, label)
  state.used, state.debt = min(MAX, state.used + amount), min(MAX, state.debt + amount)
  return state
end

function aligned.mark(state)
  return state.start
end

function aligned.mark_of_label(label)
  return label[1]
end

function aligned.spent_at(hold, state)
  if state.after > state.finish then
    return state.debt > 0 and state.after or state.finish
  end
  return state.finish + LONGEST -- a border is not known
end
