-- A bucket that drains steadily, kept as a level: authz/store/counting/gcra.py in doubles.
-- rate / window in lowest terms is q / p: a unit is p parts, of which q drain each ms, so nothing is rounded.
-- Nothing goes beyond 2^53 - 1 parts; a limit that needs more than half of that is refused.
local function gcra()
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

  local function read(raw)
    local q, p, level, at, returned, since = decode('<dddddd', raw, BODY)
    return {q = q, p = p, level = level, at = at, returned = returned, since = since}
  end

  local function write(hold, state)
    local spent_at = state.at
    if state.level > 0 then
      spent_at = state.q > 0 and state.at + divided_up(state.level, state.q) or MAX
    end
    return encode('<dddddd', state.q, state.p, state.level, state.at, state.returned, state.since), spent_at
  end

  local function view(hold, state)
    local q, p = scale_of(hold)
    if not state then
      return {q = q, p = p, level = 0, at = now, returned = 0, since = now}
    elseif p ~= state.p then
      state.level, state.returned = rescaled(state.level, state.p, p), rescaled(state.returned, state.p, p)
    end
    state.q, state.p = q, p
    if now > state.at then
      state.level, state.at = drained(state.level, q, now - state.at), now
    end
    return state
  end

  local function fits(hold, state)
    local amount, room, p = hold[AMOUNT], hold[QUOTA] - hold[OWED], state.p
    return amount <= room and amount * p <= room * p - state.level
  end

  -- And the label of what is charged.
  local function charge(state, amount)
    if state.level == 0 then -- a new busy period: older holds have drained
      state.returned, state.since = 0, max(state.since, state.at)
    end
    state.level = min(MAX, state.level + amount * state.p)
    return state.level, state.at, state.returned
  end

  local function stand(hold, state)
    if state.level == 0 then
      return 0, 0, 0
    end
    local reset = state.q > 0 and max(0, state.at - now + divided_up(state.level, state.q)) or MAX
    return divided_up(state.level, state.p), reset, 0
  end

  local function wait(hold, state)
    local room = hold[QUOTA] - hold[OWED] - hold[AMOUNT]
    if room < 0 or hold[RATE] <= 0 then
      return -1
    end
    local excess = state.level - room * state.p
    return max(1, divided_up(excess, state.q) + state.at - now)
  end

  return {
    read = read, write = write, view = view, fits = fits, charge = charge, stand = stand, wait = wait,
    scale_of = scale_of, rescaled = rescaled, drained = drained,
  }
end
