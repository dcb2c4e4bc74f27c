-- A refund goes to the sub-window that was charged, while it counts.
local function settle_sliding(kind)
  function kind.refund(hold, state, label, amount)
    state = kind.view(hold, state)
    local charged = label[1]
    if charged == state.head then
      state.newest = max(0, state.newest - amount)
      return true
    elseif charged < state.head - PARTS then
      return false
    end
    for from = 1, #state.older, PAIR_SIZE do
      local part, held = decode(PAIR, state.older, from)
      if part == charged then
        local left = max(0, held - amount)
        local pair = left > 0 and encode(PAIR, part, left) or ''
        state.older = cut(state.older, 1, from - 1) .. pair .. cut(state.older, from + PAIR_SIZE)
        kind.less(state, held - left)
        return true
      end
    end
    return false
  end

  function kind.owe(hold, state, label, amount)
    state = kind.view(hold, state)
    kind.charge(state, amount)
    return state
  end

  kind.current = kind.view
  return kind
end
