-- Three guards keep a refund from making capacity: no more than the hold left behind, minus what drained
-- since, minus what others returned since; and nothing if the bucket was empty meanwhile.
local function settle_gcra(kind)
  local function roll(state) -- by the rate in force, which is not always that of the hold
    if now > state.at then
      return kind.drained(state.level, state.q, now - state.at), now
    end
    return state.level, state.at
  end

  -- Of a lot of `lot` units (authz/store/redis/allowance/lot.py) what drained of itself is gone: what was spent
  -- of it was spent later than it was charged. It drained once what was there before had, or was given back.
  function kind.refund(hold, state, label, amount, lot)
    local left, charged_at, returned_before = label[1], label[2], label[3]
    if charged_at < state.since then
      return false
    end
    local q, p = kind.scale_of(hold)
    if p ~= state.p then -- each rounding adds less than one part
      left = kind.rescaled(left, p, state.p) - 2
      q, returned_before = divided_up(q * state.p, p), kind.rescaled(returned_before, p, state.p)
    end
    local level, at = roll(state)
    left = left - (state.returned - returned_before)
    local unused, fastest = amount * state.p, max(state.q, q)
    if lot then
      unused = min(unused, kind.drained(max(0, left - lot * state.p + unused), fastest, at - charged_at))
    end
    left = left > 0 and kind.drained(left, fastest, at - charged_at) or 0
    local give = min(unused, left, level)
    if give == 0 then
      return false
    end
    state.level, state.at, state.returned = level - give, at, state.returned + give
    if state.returned > MAX then -- what was returned cannot be told any more: no older hold gives back
      state.returned, state.since = 0, at + 1
    end
    return true
  end

  function kind.owe(hold, state, label, amount)
    if state then
      state.level, state.at = roll(state)
    else
      state = kind.view(hold)
    end
    kind.charge(state, amount)
    return state
  end

  kind.current = kind.view
  return kind
end
