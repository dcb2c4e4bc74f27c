-- Counters, each one string: its shape, what running requests hold of it, and the state of its kind.
-- `held` counts for one window instance, the `mark` (0 where windows roll), and is only told, never decided on.
local HEAD, BODY, HELD_FROM = '<Bddd', 26, 9
local KINDS = {[GCRA] = gcra, [FIXED] = aligned, [SLIDING] = sliding, [CALENDAR] = aligned}

-- The counters and slots of these holds, and with them what else is under `more` names, in one call.
local function load(holds, ...)
  local names, counters = {...}, {}
  local others = #names
  for i, hold in ipairs(holds) do
    local name = SHARD .. (hold[KIND] == CONCURRENCY and 'l:' or 'c:') .. hold[KEY]
    names[others + i] = name
    counters[i] = {name = name, kind = KINDS[hold[KIND]], mark = 0, held = 0}
  end
  local found = #names > 0 and call('MGET', unpack(names)) or {}
  for i, hold in ipairs(holds) do
    local counter, raw = counters[i], found[others + i]
    if raw then -- never so for slots: they are no string
      local kind, window
      kind, window, counter.mark, counter.held = decode(HEAD, raw)
      counter.exists = true
      if kind == hold[KIND] and window == hold[WINDOW] then -- else another counter, which begins empty
        counter.state = counter.kind.read(raw, BODY)
      end
    end
  end
  return counters, unpack(found, 1, others)
end

local function save(hold, counter)
  local head = encode(HEAD, hold[KIND], hold[WINDOW], counter.mark, counter.held)
  local spent_in = max(0, counter.kind.spent_at(hold, counter.state) - now)
  call('SET', counter.name, head .. counter.kind.write(counter.state), 'PX', spent_in + GRACE)
end

-- Only what is held, of a counter that may have another shape by now.
local function save_held(counter)
  if counter.exists then
    call('SETRANGE', counter.name, HELD_FROM, encode('<dd', counter.mark, counter.held))
  end
end

local function take(hold, counter, mark)
  if hold[UNIT] == 'requests' or hold[AMOUNT] == 0 then
    return
  elseif counter.held == 0 or mark > counter.mark then
    counter.mark, counter.held = mark, hold[AMOUNT]
  elseif mark == counter.mark then
    counter.held = counter.held + hold[AMOUNT]
  end
end

-- The inverse of `take`. True if it changed anything.
local function give_up(hold, counter, mark)
  if hold[UNIT] == 'requests' or counter.held == 0 or mark ~= counter.mark then
    return false
  end
  counter.held = max(0, counter.held - hold[AMOUNT])
  return true
end
