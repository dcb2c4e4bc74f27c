-- A bucket that drains steadily, kept as a level: authz/store/counting/gcra.py in doubles.
-- rate / window in lowest terms is q / p: a unit is p parts, of which q drain each ms, so nothing is rounded.
-- Nothing goes beyond 2^53 - 1 parts; a limit that needs more than half of that is refused (`too_fine`).
local gcra = {}

local function scale_of(hold)
  local a, b = hold[WINDOW], hold[RATE]
  while b > 0 do
    a, b = b, a % b
  end
  return hold[RATE] / a, hold[WINDOW] / a
end

-- Rounded up: the limit was changed, and what is in the bucket must not become less.
local function rescaled(level, from, to)
  if from == to then
    return level
  end
  local part = level % from
  local scaled = part * to
  local rest = scaled <= MAX and divided_up(scaled, from) or floor(scaled / from) + 1
  return min(MAX, (level - part) / from * to + rest)
end

local function drained(level, q, ms)
  if ms > level / q then -- the product could be too large to be exact
    return 0
  end
  return max(0, level - q * ms)
end

local function begin_if_empty(state)
  if state.level == 0 then -- a new busy period: older holds have drained
    state.returned, state.since = 0, max(state.since, state.at)
  end
end

function gcra.read(raw, from)
  local q, p, level, at, returned, since = decode('<dddddd', raw, from)
  return {q = q, p = p, level = level, at = at, returned = returned, since = since}
end

function gcra.write(state)
  return encode('<dddddd', state.q, state.p, state.level, state.at, state.returned, state.since)
end

function gcra.label(state)
  return state.level, state.at, state.returned
end

function gcra.view(hold, state)
  local q, p = scale_of(hold)
  if not state then
    return {q = q, p = p, level = 0, at = now, returned = 0, since = now}
  end
  state.level, state.returned = rescaled(state.level, state.p, p), rescaled(state.returned, state.p, p)
  state.q, state.p = q, p
  if now > state.at then
    state.level, state.at = drained(state.level, q, now - state.at), now
  end
  return state
end

gcra.current = gcra.view

function gcra.too_fine(hold, state)
  return hold[QUOTA] * state.p > FINEST
end

function gcra.fits(hold, state)
  local amount, quota, p = hold[AMOUNT], hold[QUOTA], state.p
  return amount <= quota and amount * p <= quota * p - state.level
end

function gcra.charge(hold, state)
  begin_if_empty(state)
  state.level = min(MAX, state.level + hold[AMOUNT] * state.p)
end

function gcra.used(state)
  return divided_up(state.level, state.p)
end

function gcra.wait(hold, state)
  if hold[AMOUNT] > hold[QUOTA] or hold[RATE] <= 0 then
    return -1
  end
  local excess = state.level + (hold[AMOUNT] - hold[QUOTA]) * state.p
  return max(1, divided_up(excess, state.q) + state.at - now)
end

function gcra.reset(hold, state)
  if state.level == 0 then
    return 0
  end
  return state.q > 0 and max(0, state.at - now + divided_up(state.level, state.q)) or MAX
end

-- No more than the hold left behind, minus what drained since, minus what others returned since;
-- nothing if the bucket was empty meanwhile. True if anything was given back.
function gcra.refund(hold, state, label, amount)
  local left, charged_at, returned_before = label[1], label[2], label[3]
  if charged_at < state.since then
    return false
  end
  local at, level, p = max(state.at, now), state.level, state.p
  if now > state.at then
    level = drained(level, state.q, now - state.at)
  end
  local q_then, p_then = scale_of(hold)
  if p_then ~= p then -- each rounding adds less than one part
    left, returned_before = rescaled(left, p_then, p) - 2, rescaled(returned_before, p_then, p)
    q_then = divided_up(q_then * p, p_then)
  end
  left = left - (state.returned - returned_before)
  left = left > 0 and drained(left, max(state.q, q_then), at - charged_at) or 0
  local give = min(amount * p, left, level)
  if give == 0 then
    return false
  end
  state.level, state.at, state.returned = level - give, at, state.returned + give
  if state.returned > MAX then -- what was returned before cannot be told any more: no older hold gives back
    state.returned, state.since = 0, at + 1
  end
  return true
end

function gcra.owe(hold, state, label, amount)
  if not state then
    state = gcra.view(hold, nil)
  elseif now > state.at then
    state.level, state.at = drained(state.level, state.q, now - state.at), now
  end
  begin_if_empty(state)
  state.level = min(MAX, state.level + amount * state.p)
  return state
end

function gcra.mark()
  return 0
end

function gcra.mark_of_label()
  return 0
end

function gcra.spent_at(hold, state)
  if state.level == 0 then
    return state.at
  end
  return state.q > 0 and state.at + divided_up(state.level, state.q) or MAX
end
