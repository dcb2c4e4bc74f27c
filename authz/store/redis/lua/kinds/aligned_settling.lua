-- A closed window takes no refund; what went beyond a hold is owed to the window that is current now.
local function settle_aligned(kind)
  -- An end that was only made up, for want of a border, is none.
  local function known_finish(finish, after)
    return after ~= 0 and finish or 0
  end

  -- `view`, long after the hold was made: of a calendar only the borders met so far are known.
  -- A window whose end is beyond them is closed at once, with no next end.
  function kind.current(hold, state, label)
    if hold[KIND] == FIXED then
      return kind.view(hold, state)
    elseif state and state.start <= now and now < state.finish then
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
    local carry = state and state.finish == start and kind.carried(hold, state) or 0
    return {start = start, finish = finish, after = after or finish, used = carry, debt = carry}
  end

  function kind.refund(hold, state, label, amount)
    if state.start ~= label[1] or now >= state.finish then
      return false
    end
    state.used = max(0, state.used - amount)
    return true
  end

  function kind.owe(hold, state, label, amount)
    state = kind.current(hold, state, label)
    state.used, state.debt = min(MAX, state.used + amount), min(MAX, state.debt + amount)
    return state
  end

  return kind
end
