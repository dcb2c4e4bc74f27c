-- A sliding window of 60 sub-windows, each counted whole: authz/store/counting/sliding.py.
-- `head` numbers the newest sub-window and `newest` is what is in it. Those before it stay as they were read,
-- pairs of number and amount, newest first, for a charge touches `newest` alone.
-- Their sum stops at 2^53, beyond every quota: only limits in a trial get there.
local function sliding()
  local function gone_at(hold, part)
    return (part + PARTS + 1) * floor(hold[WINDOW] / PARTS)
  end

  local function less(state, amount)
    if state.older_sum < BEYOND then
      state.older_sum = state.older_sum - amount
      return
    end
    state.older_sum = 0
    for from = 1, #state.older, PAIR_SIZE do
      local _, held = decode(PAIR, state.older, from)
      state.older_sum = min(BEYOND, state.older_sum + held)
    end
  end

  local function read(raw)
    local head, newest, older_sum, rest = decode('<ddd', raw, BODY)
    return {head = head, newest = newest, older_sum = older_sum, older = cut(raw, rest)}
  end

  local function write(hold, state)
    local last = state.newest > 0 and state.head or nil
    if not last and state.older ~= '' then
      last = decode(PAIR, state.older)
    end
    local body = encode('<ddd', state.head, state.newest, state.older_sum) .. state.older
    return body, last and gone_at(hold, last) or 0
  end

  local function view(hold, state)
    local head = floor(now / floor(hold[WINDOW] / PARTS))
    if not state then
      return {head = head, newest = 0, older_sum = 0, older = ''}
    elseif head <= state.head then
      return state
    end
    if state.newest > 0 then
      state.older = encode(PAIR, state.head, state.newest) .. state.older
      state.older_sum = min(BEYOND, state.older_sum + state.newest)
    end
    state.head, state.newest = head, 0
    while state.older ~= '' do
      local part, amount = decode(PAIR, state.older, #state.older - PAIR_SIZE + 1)
      if part >= head - PARTS then
        break
      end
      state.older = cut(state.older, 1, -PAIR_SIZE - 1)
      less(state, amount)
    end
    return state
  end

  local function fits(hold, state)
    return hold[AMOUNT] <= hold[QUOTA] - hold[OWED] - min(BEYOND, state.newest + state.older_sum)
  end

  -- And the label of what is charged.
  local function charge(state, amount)
    state.newest = min(MAX, state.newest + amount)
    return state.head, 0, 0
  end

  local function stand(hold, state)
    local used, last = min(BEYOND, state.newest + state.older_sum), state.head
    if used == 0 then
      return 0, 0, 0
    elseif state.newest == 0 then
      last = decode(PAIR, state.older)
    end
    return used, max(0, gone_at(hold, last) - now), 0
  end

  local function wait(hold, state)
    local room = hold[QUOTA] - hold[OWED] - hold[AMOUNT]
    if room < 0 then
      return -1
    end
    -- Parts are gone oldest first: it fits once what is newer than the part that went last is little enough.
    local last, newer = state.head, state.newest
    for from = 1, #state.older, PAIR_SIZE do
      if newer > room then
        break
      end
      local amount
      last, amount = decode(PAIR, state.older, from)
      newer = newer + amount
    end
    return max(1, gone_at(hold, last) - now)
  end

  return {
    read = read, write = write, view = view, fits = fits, charge = charge, stand = stand, wait = wait,
    less = less,
  }
end
