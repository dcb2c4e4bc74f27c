-- A sliding window of 60 sub-windows, each counted whole: authz/store/counting/sliding.py.
-- `head` numbers the newest sub-window and `newest` is what is in it. Those before it stay as they were read,
-- pairs of number and amount, newest first, for a charge touches `newest` alone.
-- Their sum stops at 2^53, beyond every quota: only limits in a trial get there.
local sliding = {}
local PAIR, PAIR_SIZE, BEYOND = '<dd', 16, MAX + 1

local function length_of(hold)
  return hold[WINDOW] / PARTS
end

local function gone_at(hold, part)
  return (part + PARTS + 1) * length_of(hold)
end

local function sum_of(older)
  local sum = 0
  for from = 1, #older, PAIR_SIZE do
    local _, amount = decode(PAIR, older, from)
    sum = min(BEYOND, sum + amount)
  end
  return sum
end

local function less(state, amount)
  state.older_sum = state.older_sum == BEYOND and sum_of(state.older) or state.older_sum - amount
end

function sliding.read(raw, from)
  local head, newest, older_sum = decode('<ddd', raw, from)
  return {head = head, newest = newest, older_sum = older_sum, older = cut(raw, from + 24)}
end

function sliding.write(state)
  return encode('<ddd', state.head, state.newest, state.older_sum) .. state.older
end

function sliding.label(state)
  return state.head, 0, 0
end

function sliding.view(hold, state)
  local head = floor(now / length_of(hold))
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

sliding.current = sliding.view

function sliding.used(state)
  return min(BEYOND, state.newest + state.older_sum)
end

function sliding.fits(hold, state)
  return hold[AMOUNT] <= hold[QUOTA] - sliding.used(state)
end

function sliding.charge(hold, state)
  state.newest = min(MAX, state.newest + hold[AMOUNT])
end

function sliding.wait(hold, state)
  local room = hold[QUOTA] - hold[AMOUNT]
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

function sliding.reset(hold, state)
  return sliding.used(state) > 0 and max(0, sliding.spent_at(hold, state) - now) or 0
end

function sliding.refund(hold, state, label, amount)
  state = sliding.view(hold, state)
  local charged = label[1]
  if charged == state.head then
    state.newest = max(0, state.newest - amount)
    return true
  elseif charged < state.head - PARTS then
    return false
  end
  local from = 1
  while from <= #state.older do
    local part, held = decode(PAIR, state.older, from)
    if part == charged then
      local left = max(0, held - amount)
      local pair = left > 0 and encode(PAIR, part, left) or ''
      state.older = cut(state.older, 1, from - 1) .. pair .. cut(state.older, from + PAIR_SIZE)
      less(state, held - left)
      return true
    end
    from = from + PAIR_SIZE
  end
  return false
end

function sliding.owe(hold, state, label, amount)
  state = sliding.view(hold, state)
  state.newest = min(MAX, state.newest + amount)
  return state
end

function sliding.mark()
  return 0
end

function sliding.mark_of_label()
  return 0
end

function sliding.spent_at(hold, state)
  if state.newest > 0 then
    return gone_at(hold, state.head)
  elseif state.older ~= '' then
    local part = decode(PAIR, state.older)
    return gone_at(hold, part)
  end
  return 0
end
